// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! As whom the users of a container are seen outside: the labels that containerd's client gives a snapshot for a
//! container in a user namespace, and the options that containerd's mount takes for what is below. What is above, it
//! expects to have the right owner. Called by [`crate::snapshotter`].

use crate::catalog::Labels;
use crate::problem::Problem;
use crate::problem::Result;
use rustix::fs::Gid;
use rustix::fs::Uid;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// The labels, and the options of the same text.
const KEYS: [(&str, &str); 2] = [
    ("containerd.io/snapshot/uidmapping", "uidmap"),
    ("containerd.io/snapshot/gidmapping", "gidmap"),
];

/// Ranges of IDs: the first one inside, the first one outside, how many.
type Ranges = Vec<(u32, u32, u32)>;

/// What a snapshot's labels say.
#[derive(Debug, PartialEq, Eq)]
pub struct Mapping {
    users: Ranges,
    groups: Ranges,
}

impl Mapping {
    /// Reads the labels. None: its users are those outside.
    ///
    /// # Errors
    ///
    /// When there is but one of them, or it is not `INSIDE:OUTSIDE:COUNT`, or several with commas between.
    pub fn of(labels: &Labels) -> Result<Option<Mapping>> {
        let [users, groups] = KEYS.map(|(label, _)| labels.get(label));
        match (users, groups) {
            (None, None) => Ok(None),
            (Some(users), Some(groups)) => Ok(Some(Mapping {
                users: parse(KEYS[0].0, users)?,
                groups: parse(KEYS[1].0, groups)?,
            })),
            (Some(_), None) | (None, Some(_)) => Err(Problem::invalid(format!(
                "expected both labels {} and {}",
                KEYS[0].0, KEYS[1].0
            ))),
        }
    }

    /// The options of a mount.
    pub fn options(labels: &Labels) -> impl Iterator<Item = String> + '_ {
        KEYS.iter().filter_map(|(label, option)| {
            labels
                .get(*label)
                .map(|mapping| format!("{option}={mapping}"))
        })
    }

    /// Gives a directory that has the owner that is seen inside the one that is seen outside. An owner that nobody is
    /// inside becomes root there.
    ///
    /// # Errors
    ///
    /// When that fails.
    pub fn chown(&self, directory: &Path) -> Result<()> {
        let set = || {
            let file = fs::File::open(directory)?;
            let found = file.metadata()?;
            let user = Uid::from_raw(outside(&self.users, found.uid()));
            let group = Gid::from_raw(outside(&self.groups, found.gid()));
            rustix::fs::fchown(file, Some(user), Some(group)).map_err(std::io::Error::from)
        };
        set().map_err(Problem::io("set the owner of", directory))
    }
}

fn parse(label: &str, text: &str) -> Result<Ranges> {
    let bad = || {
        Problem::invalid(format!(
            "label {label}: expected INSIDE:OUTSIDE:COUNT, and commas between several, found {text:?}"
        ))
    };
    let number = |part: Option<&str>| part.and_then(|part| part.parse().ok()).ok_or_else(bad);
    text.split(',')
        .map(|range| {
            let mut parts = range.split(':');
            let found: (u32, u32, u32) = (
                number(parts.next())?,
                number(parts.next())?,
                number(parts.next())?,
            );
            let fits = |first: u32| found.2 > 0 && first.checked_add(found.2).is_some();
            match parts.next() {
                None if fits(found.0) && fits(found.1) => Ok(found),
                _ => Err(bad()),
            }
        })
        .collect()
}

/// Who is seen outside.
fn outside(ranges: &Ranges, inside: u32) -> u32 {
    let of = |id: u32| {
        ranges.iter().find_map(|(first, outside, count)| {
            let at = id.checked_sub(*first).filter(|at| at < count)?;
            outside.checked_add(at)
        })
    };
    of(inside).or_else(|| of(0)).unwrap_or(inside)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(users: Option<&str>, groups: Option<&str>) -> Labels {
        KEYS.iter()
            .zip([users, groups])
            .filter_map(|((label, _), text)| Some((label.to_string(), text?.to_owned())))
            .collect()
    }

    #[test]
    fn labels_are_read() {
        assert_eq!(Mapping::of(&labels(None, None)).unwrap(), None);
        let found = labels(Some("0:100000:65536"), Some("0:200000:10,10:5:1"));
        assert_eq!(
            Mapping::options(&found).collect::<Vec<_>>(),
            ["uidmap=0:100000:65536", "gidmap=0:200000:10,10:5:1"]
        );
        let mapping = Mapping::of(&found).unwrap().unwrap();
        for (ranges, inside, expected) in [
            (&mapping.users, 0, 100_000),
            (&mapping.users, 65_535, 165_535),
            // Nobody there.
            (&mapping.users, 65_536, 100_000),
            (&mapping.groups, 9, 200_009),
            (&mapping.groups, 10, 5),
            (&mapping.groups, 11, 200_000),
        ] {
            assert_eq!(outside(ranges, inside), expected, "{inside}");
        }
        assert_eq!(outside(&vec![(1, 7, 1)], 0), 0);
    }

    #[test]
    fn wrong_labels_are_refused() {
        for text in [
            "",
            "0:1",
            "0:1:0",
            "0:1:2:3",
            "a:1:2",
            "0:1:2,",
            "0:4294967295:2",
            "-1:0:1",
        ] {
            assert!(
                Mapping::of(&labels(Some(text), Some("0:1:2"))).is_err(),
                "{text}"
            );
            assert!(
                Mapping::of(&labels(Some("0:1:2"), Some(text))).is_err(),
                "{text}"
            );
        }
        assert!(Mapping::of(&labels(Some("0:1:2"), None)).is_err());
    }
}
