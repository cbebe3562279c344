// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! From an archive to an index image: puts together [`tar`](crate::tar), [`tree`](crate::tree)
//! and [`image`](crate::image). The `ferofs build` command calls this with files.

use crate::image::Store;
use crate::image::store::StoreError;
use crate::image::store::Wanted;
use crate::tar::Entry;
use crate::tar::Error;
use crate::tar::Input;
use crate::tar::Names;
use crate::tar::Reader;
use crate::tar::Totals;
use crate::tree::Data;
use crate::tree::Tree;
use crate::tree::apply::Applier;

/// What was read from an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Archive {
    /// Its size, and its digest if all of it was read.
    pub totals: Totals,
    /// Number of entries.
    pub entries: u64,
    /// What was skipped, or read in a way its author may not have meant.
    pub notes: Vec<String>,
}

/// Told how far reading is: bytes of the archive, and entries.
pub trait Progress {
    /// Called after every entry.
    fn advance(&mut self, position: u64, entries: u64);
}

/// Nobody wants to know.
impl Progress for () {
    fn advance(&mut self, _: u64, _: u64) {}
}

/// Applies an archive to a tree; its files' data is in blob number `blob`.
///
/// # Errors
///
/// When it cannot be read, or is not an archive, or describes files that cannot be in a tree.
pub fn apply_archive<I: Input>(
    input: I,
    tree: &mut Tree,
    blob: u16,
    progress: &mut impl Progress,
) -> Result<Archive, Error> {
    apply_entries(
        Reader::new(input, Names::of_this_machine()),
        tree,
        blob,
        progress,
    )
}

/// Applies what a reader reads to a tree; its files' data is in blob number `blob`.
///
/// # Errors
///
/// Those of [`apply_archive`].
pub fn apply_entries<I: Input>(
    reader: Reader<I>,
    tree: &mut Tree,
    blob: u16,
    progress: &mut impl Progress,
) -> Result<Archive, Error> {
    let stays = |_: &mut Reader<I>, _: &()| Ok(None);
    apply(reader, tree, blob, progress, |_| None, stays)
}

/// Applies what a reader reads to a tree, and puts the data of its files into an image on the way.
///
/// # Errors
///
/// Those of [`apply_archive`], and when the data cannot be written.
pub fn store_entries<I: Input>(
    reader: Reader<I>,
    tree: &mut Tree,
    store: &mut Store<'_>,
    progress: &mut impl Progress,
) -> Result<Archive, StoreError> {
    let take = |reader: &mut Reader<I>, wanted: &Wanted| store.take(reader, wanted).map(Some);
    apply(reader, tree, 0, progress, Wanted::of, take)
}

/// Applies all entries. `look` is shown each one, `take` gets what it saw if that was a file, and
/// may say that the file's data is somewhere else.
fn apply<I: Input, L, E: From<Error>>(
    mut reader: Reader<I>,
    tree: &mut Tree,
    blob: u16,
    progress: &mut impl Progress,
    look: impl Fn(&Entry<'_>) -> Option<L>,
    mut take: impl FnMut(&mut Reader<I>, &L) -> Result<Option<Data>, E>,
) -> Result<Archive, E> {
    let mut applier = Applier::new(tree, blob);
    let mut entries = 0;
    loop {
        let position = reader.position();
        let Some(entry) = reader.next_entry()? else {
            break;
        };
        let seen = look(&entry);
        let file = applier.apply(&entry)?;
        if let (Some(file), Some(seen)) = (file, seen) {
            if let Some(data) = take(&mut reader, &seen)? {
                applier.set_data(file, data);
            }
        }
        entries += 1;
        progress.advance(position, entries);
    }
    let mut applied = applier.finish()?;
    let totals = reader.finish()?;
    let mut notes = reader.take_notes();
    notes.append(&mut applied);
    Ok(Archive {
        totals,
        entries,
        notes,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_an_empty_archive() {
        for zeros in [0, 512, 1024, 10240] {
            let bytes = vec![0; zeros];
            let mut tree = Tree::new();
            let input = crate::tar::StreamInput::new(bytes.as_slice());
            let archive = apply_archive(input, &mut tree, 0, &mut ()).unwrap();
            assert_eq!((archive.entries, archive.totals.size), (0, zeros as u64));
        }
    }
}
