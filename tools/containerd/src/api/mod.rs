// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! What is spoken on the sockets: generated from `proto/`, see `tests/api.rs`. The modules are nested as the packages
//! there are, since the generated code refers to its neighbours that way.

#![allow(missing_docs)]

/// containerd's own.
pub mod containerd {
    #[rustfmt::skip]
    #[path = "../containerd.types.rs"]
    pub mod types;

    pub mod services {
        pub mod snapshots {
            #[rustfmt::skip]
            #[path = "../../../../containerd.services.snapshots.v1.rs"]
            pub mod v1;
        }
        pub mod diff {
            #[rustfmt::skip]
            #[path = "../../../../containerd.services.diff.v1.rs"]
            pub mod v1;
        }
        pub mod content {
            #[rustfmt::skip]
            #[path = "../../../../containerd.services.content.v1.rs"]
            pub mod v1;
        }
        pub mod leases {
            #[rustfmt::skip]
            #[path = "../../../../containerd.services.leases.v1.rs"]
            pub mod v1;
        }
    }
}

/// What `containerd-ferofs-grpc store` asks.
#[rustfmt::skip]
#[path = "ferofs.store.v1.rs"]
pub mod store;
