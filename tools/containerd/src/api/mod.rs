// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! What is spoken on the sockets: generated from `proto/`, see `tests/api.rs`. The modules are nested as the packages
//! there are, since the generated code refers to its neighbours that way.

#![allow(missing_docs, clippy::all)]

/// containerd's own.
pub mod containerd {
    pub mod types {
        include!("containerd.types.rs");
    }
    pub mod services {
        pub mod snapshots {
            pub mod v1 {
                include!("containerd.services.snapshots.v1.rs");
            }
        }
        pub mod diff {
            pub mod v1 {
                include!("containerd.services.diff.v1.rs");
            }
        }
        pub mod content {
            pub mod v1 {
                include!("containerd.services.content.v1.rs");
            }
        }
        pub mod leases {
            pub mod v1 {
                include!("containerd.services.leases.v1.rs");
            }
        }
    }
}

/// What `containerd-ferofs-grpc store` asks.
pub mod store {
    include!("ferofs.store.v1.rs");
}
