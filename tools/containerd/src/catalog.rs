// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! What is known of snapshots and layers: the database, and all that has to happen in one transaction.
//!
//! A snapshot has a name (containerd's key, which has the namespace in it), and a number that its directory is called
//! after and that stays when it is committed. A layer is called after its sha256, is there once however many snapshots
//! have it, and goes with the last of them. Files come before their records and go after them, so what is killed in
//! between leaves files that nobody knows, which [`crate::sweep`] removes. Called by [`crate::snapshotter`] and
//! [`crate::applier`].

use crate::problem::Problem;
use crate::problem::Result;
use ferofs::digest::Digest;
use ferofs::digest::verity;
use redb::Database;
use redb::Durability;
use redb::MultimapTableDefinition;
use redb::ReadableMultimapTable;
use redb::ReadableTable;
use redb::TableDefinition;
use redb::WriteTransaction;
use serde::Deserialize;
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;
use std::time::SystemTime;
use std::time::UNIX_EPOCH;

/// The label that says which layer of an image a snapshot is to become: its chain ID.
pub const TARGET: &str = "containerd.io/snapshot.ref";

/// Name to [`Snapshot`].
const SNAPSHOTS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("snapshots");
/// Number to name.
const NUMBERS: TableDefinition<'_, u64, &str> = TableDefinition::new("numbers");
/// Name to the names of those on top of it.
const CHILDREN: MultimapTableDefinition<'_, &str, &str> = MultimapTableDefinition::new("children");
/// Chain ID and parent to the name of the committed snapshot.
const TARGETS: TableDefinition<'_, (&str, &str), &str> = TableDefinition::new("targets");
/// sha256 to [`Layer`].
const LAYERS: TableDefinition<'_, &[u8; 32], &[u8]> = TableDefinition::new("layers");
/// sha256 of a layer to the numbers of its snapshots.
const USERS: MultimapTableDefinition<'_, &[u8; 32], u64> = MultimapTableDefinition::new("users");
/// sha256 of what is stored in a registry to that of the layer.
const STORED: TableDefinition<'_, &[u8; 32], &[u8; 32]> = TableDefinition::new("stored");
/// The next number, and the version of all this.
const COUNTERS: TableDefinition<'_, &str, u64> = TableDefinition::new("counters");

/// The version that is written, and read.
const VERSION: u64 = 1;

/// What a snapshot is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// To be looked at.
    View,
    /// To be written to.
    #[default]
    Active,
    /// To be below others.
    Committed,
}

impl Kind {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Kind::View => "view",
            Kind::Active => "active",
            Kind::Committed => "committed",
        }
    }
}

/// A time, in seconds and nanoseconds since 1970.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Time(pub i64, pub i32);

impl Time {
    fn now() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        let since = since.unwrap_or(Duration::ZERO);
        Time(
            i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
            i32::try_from(since.subsec_nanos()).unwrap_or(0),
        )
    }
}

/// Labels.
pub type Labels = BTreeMap<String, String>;

/// A snapshot.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Snapshot {
    /// Its name.
    #[serde(skip)]
    pub name: String,
    /// Its number.
    pub number: u64,
    /// What it is for.
    pub kind: Kind,
    /// The name of the one below.
    pub parent: Option<String>,
    /// When it was made.
    pub created: Time,
    /// When it was changed.
    pub updated: Time,
    /// What else is known of it.
    pub labels: Labels,
    /// The sha256 of the layer that it consists of. A committed snapshot without one is the directory that was written to.
    #[serde(default, with = "hex", skip_serializing_if = "Option::is_none")]
    pub layer: Option<Digest>,
    /// Once it is committed: what it takes on disk, in bytes.
    #[serde(default)]
    pub bytes: u64,
    /// And in inodes.
    #[serde(default)]
    pub inodes: u64,
    /// How much can be written to it, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
}

/// What a snapshot consists of when it is committed.
pub enum Content<'a> {
    /// The layer that was applied to it.
    Applied,
    /// A layer by its sha256.
    Layer(Digest, &'a Layer),
    /// What was written to it, where it was written to.
    Directory {
        /// Bytes on disk.
        bytes: u64,
        /// And inodes.
        inodes: u64,
    },
}

impl Snapshot {
    /// Whether it is there to have a layer of an image applied to it.
    pub fn is_for_a_layer(&self) -> bool {
        self.kind == Kind::Active && is_for_a_layer(&self.name, &self.labels)
    }

    fn target(&self) -> Option<(&str, &str)> {
        let target = self.labels.get(TARGET)?;
        let committed = self.kind == Kind::Committed;
        committed.then_some((target, self.parent.as_deref().unwrap_or("")))
    }
}

/// Whether what is prepared with this key and these labels is to have a layer of an image applied to it. Some of containerd's
/// clients, `ctr snapshots unpack` for one, say so by the key alone, `extract-TIME-RANDOM CHAIN-ID`, in front of which containerd
/// puts the namespace and a number.
pub fn is_for_a_layer(key: &str, labels: &Labels) -> bool {
    let last = key.rsplit('/').next().unwrap_or(key);
    let is_unpacked = last.starts_with("extract-") && last.contains(" sha256:");
    is_unpacked || labels.contains_key(TARGET)
}

mod hex {
    use ferofs::digest::Digest;
    use serde::Deserialize;
    use serde::Deserializer;
    use serde::Serializer;
    use serde::de::Error;

    pub fn serialize<S: Serializer>(digest: &Option<Digest>, to: S) -> Result<S::Ok, S::Error> {
        match digest {
            Some(digest) => to.collect_str(digest),
            None => to.serialize_none(),
        }
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Digest>, D::Error> {
        let text = Option::<String>::deserialize(from)?;
        text.map(|text| Digest::parse(&text).ok_or_else(|| D::Error::custom("no sha256")))
            .transpose()
    }
}

/// What the files of a layer are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Form {
    /// A plain tar and its index.
    Tar,
    /// An image with its data in it.
    Image,
    /// One whose data is compressed.
    Compressed,
    /// A plain tar that is there as far as it was read, and its index, see [`crate::on_demand`].
    OnDemand,
}

impl Form {
    /// Whether the data is in a tar beside the index.
    pub fn is_tar(self) -> bool {
        matches!(self, Form::Tar | Form::OnDemand)
    }
}

/// Where a layer comes from that is not there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// An image that has it, by the digest of its manifest.
    pub image: String,
}

/// A layer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layer {
    /// What its files are.
    pub form: Form,
    /// The size of the tar or image, in bytes.
    pub size: u64,
    /// That of the index, in bytes.
    pub index: u64,
    /// Inodes in it.
    pub inodes: u64,
    /// The size of an image's blocks as a power of two, as far as is known. Of one whose data is compressed it is known if it can be
    /// part of another image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub block_bits: Option<u8>,
    /// What it was called in the registry, as far as is known.
    #[serde(default)]
    pub stored: Vec<String>,
    /// The fs-verity digest of the file that has its data, if that has fs-verity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verity: Option<String>,
    /// Where it comes from, if it was not there when it became known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<Origin>,
}

impl Layer {
    /// Its fs-verity digest.
    pub fn verity(&self) -> Option<verity::Digest> {
        let digest = Digest::parse(self.verity.as_deref()?)?;
        Some(verity::Digest(digest.0))
    }
}

/// The database.
pub struct Catalog {
    database: Database,
}

fn decode(name: &str, bytes: &[u8]) -> Result<Snapshot> {
    let mut snapshot: Snapshot = serde_json::from_slice(bytes)?;
    snapshot.name = name.to_owned();
    Ok(snapshot)
}

fn no_snapshot(name: &str) -> Problem {
    Problem::missing(format!("snapshot {name} does not exist"))
}

/// The snapshot of a name.
fn expect(table: &impl ReadableTable<&'static str, &'static [u8]>, name: &str) -> Result<Snapshot> {
    match table.get(name)? {
        Some(found) => decode(name, found.value()),
        None => Err(no_snapshot(name)),
    }
}

/// The layer of a diff ID, if it is there.
fn layer(
    table: &impl ReadableTable<&'static [u8; 32], &'static [u8]>,
    digest: Digest,
) -> Result<Option<Layer>> {
    let found = table.get(&digest.0)?;
    let layer = found.map(|found| serde_json::from_slice(found.value()));
    Ok(layer.transpose()?)
}

/// Tables that all transactions that write have open.
struct Writing<'a>(&'a WriteTransaction);

impl Writing<'_> {
    fn get(&self, name: &str) -> Result<Option<Snapshot>> {
        let table = self.0.open_table(SNAPSHOTS)?;
        let found = table.get(name)?;
        found.map(|found| decode(name, found.value())).transpose()
    }

    fn expect(&self, name: &str) -> Result<Snapshot> {
        self.get(name)?.ok_or_else(|| no_snapshot(name))
    }

    /// Adds a snapshot with all that leads to it.
    fn put(&self, snapshot: &Snapshot) -> Result<()> {
        let name = snapshot.name.as_str();
        let bytes = serde_json::to_vec(snapshot)?;
        self.0
            .open_table(SNAPSHOTS)?
            .insert(name, bytes.as_slice())?;
        self.0.open_table(NUMBERS)?.insert(snapshot.number, name)?;
        if let Some(parent) = &snapshot.parent {
            let mut children = self.0.open_multimap_table(CHILDREN)?;
            children.insert(parent.as_str(), name)?;
        }
        if let Some(target) = snapshot.target() {
            self.0.open_table(TARGETS)?.insert(target, name)?;
        }
        if let Some(layer) = snapshot.layer {
            let mut users = self.0.open_multimap_table(USERS)?;
            users.insert(&layer.0, snapshot.number)?;
        }
        Ok(())
    }

    /// Takes one away with all that leads to it, but for its layer.
    fn take(&self, snapshot: &Snapshot) -> Result<()> {
        let name = snapshot.name.as_str();
        self.0.open_table(SNAPSHOTS)?.remove(name)?;
        self.0.open_table(NUMBERS)?.remove(snapshot.number)?;
        if let Some(parent) = &snapshot.parent {
            let mut children = self.0.open_multimap_table(CHILDREN)?;
            children.remove(parent.as_str(), name)?;
        }
        if let Some(target) = snapshot.target() {
            let mut targets = self.0.open_table(TARGETS)?;
            let same = targets
                .get(target)?
                .is_some_and(|found| found.value() == name);
            if same {
                targets.remove(target)?;
            }
        }
        Ok(())
    }

    /// Says that a snapshot has its layer no more. Returns whether nobody has it then.
    fn let_go(&self, layer: Digest, number: u64) -> Result<bool> {
        let mut users = self.0.open_multimap_table(USERS)?;
        users.remove(&layer.0, number)?;
        if users.get(&layer.0)?.next().is_some() {
            return Ok(false);
        }
        let mut layers = self.0.open_table(LAYERS)?;
        let removed: Option<Layer> = match layers.remove(&layer.0)? {
            Some(bytes) => serde_json::from_slice(bytes.value())?,
            None => None,
        };
        let mut stored = self.0.open_table(STORED)?;
        for digest in removed.iter().flat_map(|layer| &layer.stored) {
            if let Some(digest) = Digest::parse(digest) {
                stored.remove(&digest.0)?;
            }
        }
        Ok(true)
    }

    /// Says what a snapshot takes on disk, which is what its layer takes.
    fn measure(&self, snapshot: &mut Snapshot) -> Result<()> {
        let Some(digest) = snapshot.layer else {
            return Ok(());
        };
        let layers = self.0.open_table(LAYERS)?;
        let Some(found) = layers.get(&digest.0)? else {
            return Err(Problem::missing(format!("layer {digest} does not exist")));
        };
        let found: Layer = serde_json::from_slice(found.value())?;
        snapshot.bytes = found.size.saturating_add(found.index);
        snapshot.inodes = found.inodes;
        Ok(())
    }

    fn number(&self) -> Result<u64> {
        let mut counters = self.0.open_table(COUNTERS)?;
        let number = counters.get("number")?.map_or(1, |number| number.value());
        counters.insert("number", number.saturating_add(1))?;
        Ok(number)
    }

    /// The snapshot that another one is to be on top of.
    fn parent(&self, parent: Option<&str>) -> Result<()> {
        let Some(name) = parent else {
            return Ok(());
        };
        let Some(parent) = self.get(name)? else {
            let problem = format!("parent snapshot {name} does not exist");
            return Err(Problem::missing(problem));
        };
        if parent.kind != Kind::Committed {
            let word = parent.kind.word();
            let problem = format!("parent snapshot {name} is {word}, expected a committed one");
            return Err(Problem::invalid(problem));
        }
        Ok(())
    }

    fn expect_unused(&self, name: &str) -> Result<()> {
        match self.get(name)? {
            Some(_) => Err(Problem::exists(format!("snapshot {name} already exists"))),
            None => Ok(()),
        }
    }
}

impl Catalog {
    /// Opens the database, or makes it.
    ///
    /// # Errors
    ///
    /// When somebody else has it open, or it is none, or of another version.
    pub fn open(path: &Path) -> Result<Self> {
        let database = Database::create(path).map_err(|error| match error {
            redb::DatabaseError::DatabaseAlreadyOpen => Problem::precondition(format!(
                "{}: another process has it open: is the daemon running already?",
                path.display()
            )),
            error => Problem::failed(format!("{}: {error}", path.display())),
        })?;
        let catalog = Catalog { database };
        catalog.write(|tables| {
            tables.0.open_table(SNAPSHOTS)?;
            tables.0.open_table(NUMBERS)?;
            tables.0.open_multimap_table(CHILDREN)?;
            tables.0.open_table(TARGETS)?;
            tables.0.open_table(LAYERS)?;
            tables.0.open_multimap_table(USERS)?;
            tables.0.open_table(STORED)?;
            let mut counters = tables.0.open_table(COUNTERS)?;
            let found = counters.get("version")?.map(|version| version.value());
            match found {
                None => {
                    counters.insert("version", VERSION)?;
                    Ok(())
                }
                Some(VERSION) => Ok(()),
                Some(other) => Err(Problem::failed(format!(
                    "{}: it is of version {other}, expected {VERSION}",
                    path.display()
                ))),
            }
        })?;
        Ok(catalog)
    }

    /// Does something in one transaction, which is on disk when this returns, or did not happen.
    fn write<T>(&self, work: impl FnOnce(&Writing<'_>) -> Result<T>) -> Result<T> {
        let mut transaction = self.database.begin_write()?;
        transaction.set_durability(Durability::Immediate);
        let result = work(&Writing(&transaction))?;
        transaction.commit()?;
        Ok(result)
    }

    /// Adds a snapshot.
    ///
    /// # Errors
    ///
    /// When there is one of this name, or no committed parent.
    pub fn create(
        &self,
        kind: Kind,
        name: &str,
        parent: Option<&str>,
        labels: Labels,
        limit: Option<u64>,
    ) -> Result<Snapshot> {
        self.add(kind, name, parent, labels, None, limit)
    }

    /// Adds a committed snapshot that consists of a layer, which may be new.
    ///
    /// # Errors
    ///
    /// When there is one of this name, or no committed parent, or no such layer.
    pub fn create_committed(
        &self,
        name: &str,
        parent: Option<&str>,
        labels: Labels,
        digest: Digest,
        layer: Option<&Layer>,
    ) -> Result<Snapshot> {
        let layer = Some((digest, layer));
        self.add(Kind::Committed, name, parent, labels, layer, None)
    }

    fn add(
        &self,
        kind: Kind,
        name: &str,
        parent: Option<&str>,
        labels: Labels,
        layer: Option<(Digest, Option<&Layer>)>,
        limit: Option<u64>,
    ) -> Result<Snapshot> {
        if name.is_empty() {
            return Err(Problem::invalid("a snapshot needs a name"));
        }
        self.write(|tables| {
            if let Some((digest, Some(layer))) = layer {
                put_layer(tables, digest, layer)?;
            }
            let layer = layer.map(|(digest, _)| digest);
            tables.expect_unused(name)?;
            tables.parent(parent)?;
            let now = Time::now();
            let mut snapshot = Snapshot {
                name: name.to_owned(),
                number: tables.number()?,
                kind,
                parent: parent.map(str::to_owned),
                created: now,
                updated: now,
                labels,
                layer,
                bytes: 0,
                inodes: 0,
                limit,
            };
            tables.measure(&mut snapshot)?;
            tables.put(&snapshot)?;
            Ok(snapshot)
        })
    }

    /// Commits a snapshot: it gets another name, and perhaps a parent that it did not have. `layer` is what it
    /// consists of, if that was not said before.
    ///
    /// # Errors
    ///
    /// When there is no such active one, or the name is taken, or the parent is none or another one than it has.
    pub fn commit(
        &self,
        key: &str,
        name: &str,
        parent: Option<&str>,
        labels: Labels,
        content: Content<'_>,
    ) -> Result<Snapshot> {
        if name.is_empty() {
            return Err(Problem::invalid("a snapshot needs a name"));
        }
        self.write(|tables| {
            let old = tables.expect(key)?;
            if old.kind != Kind::Active {
                let word = old.kind.word();
                let problem = format!("snapshot {key} is {word}, expected an active one");
                return Err(Problem::precondition(problem));
            }
            tables.expect_unused(name)?;
            if let (Some(now), Some(before)) = (parent, old.parent.as_deref()) {
                if now != before {
                    let problem = format!("snapshot {key} is on top of {before}, not of {now}");
                    return Err(Problem::invalid(problem));
                }
            }
            tables.parent(parent)?;
            tables.take(&old)?;
            let now = Time::now();
            let mut new = Snapshot {
                name: name.to_owned(),
                kind: Kind::Committed,
                parent: parent.map(str::to_owned).or(old.parent),
                // For containerd a commit is the beginning of another snapshot.
                created: now,
                updated: now,
                labels,
                ..old
            };
            match content {
                Content::Applied => {}
                Content::Layer(digest, layer) => {
                    new.layer = Some(digest);
                    put_layer(tables, digest, layer)?;
                }
                Content::Directory { bytes, inodes } => {
                    (new.bytes, new.inodes) = (bytes, inodes);
                }
            }
            tables.measure(&mut new)?;
            tables.put(&new)?;
            Ok(new)
        })
    }

    /// Says what layer an active snapshot consists of. Returns the layer that it had before, if nobody has that now.
    ///
    /// # Errors
    ///
    /// When the snapshot is gone.
    pub fn apply(&self, number: u64, digest: Digest, layer: &Layer) -> Result<Option<Digest>> {
        self.write(|tables| {
            let name = tables
                .0
                .open_table(NUMBERS)?
                .get(number)?
                .map(|name| name.value().to_owned());
            let name =
                name.ok_or_else(|| Problem::missing(format!("snapshot number {number} is gone")))?;
            let mut snapshot = tables.expect(&name)?;
            if snapshot.kind != Kind::Active {
                let word = snapshot.kind.word();
                let problem = format!("snapshot {name} is {word}, expected an active one");
                return Err(Problem::precondition(problem));
            }
            let before = snapshot.layer.filter(|before| *before != digest);
            let unused = match before {
                Some(before) => tables.let_go(before, number)?.then_some(before),
                None => None,
            };
            snapshot.layer = Some(digest);
            put_layer(tables, digest, layer)?;
            tables.put(&snapshot)?;
            Ok(unused)
        })
    }

    /// Removes a snapshot. Returns it, and whether its layer is nobody's now.
    ///
    /// # Errors
    ///
    /// When there is none, or others are on top of it.
    pub fn remove(&self, name: &str) -> Result<(Snapshot, bool)> {
        self.write(|tables| {
            let snapshot = tables.expect(name)?;
            let children = tables.0.open_multimap_table(CHILDREN)?;
            if let Some(child) = children.get(name)?.next() {
                let child = child?.value().to_owned();
                return Err(Problem::precondition(format!(
                    "cannot remove snapshot {name}: {child} is on top of it"
                )));
            }
            drop(children);
            tables.take(&snapshot)?;
            let unused = match snapshot.layer {
                Some(layer) => tables.let_go(layer, snapshot.number)?,
                None => false,
            };
            Ok((snapshot, unused))
        })
    }

    /// Changes labels: those that are named by `labels.NAME` or all by `labels`, as containerd names fields.
    ///
    /// # Errors
    ///
    /// When there is no such snapshot, or the field cannot be changed.
    pub fn update(&self, name: &str, labels: Labels, fields: &[String]) -> Result<Snapshot> {
        self.write(|tables| {
            let old = tables.expect(name)?;
            let mut new = old.clone();
            if fields.is_empty() {
                new.labels = labels.clone();
            }
            for field in fields {
                if field == "labels" {
                    new.labels = labels.clone();
                } else if let Some(key) = field.strip_prefix("labels.") {
                    let value = labels.get(key).cloned().unwrap_or_default();
                    new.labels.insert(key.to_owned(), value);
                } else {
                    return Err(Problem::invalid(format!(
                        "cannot change {field:?} of snapshot {name}, only labels"
                    )));
                }
            }
            new.labels.retain(|_, value| !value.is_empty());
            new.updated = Time::now();
            tables.take(&old)?;
            tables.put(&new)?;
            Ok(new)
        })
    }

    /// A snapshot.
    ///
    /// # Errors
    ///
    /// When there is none.
    pub fn get(&self, name: &str) -> Result<Snapshot> {
        let transaction = self.database.begin_read()?;
        expect(&transaction.open_table(SNAPSHOTS)?, name)
    }

    /// The one with a number.
    ///
    /// # Errors
    ///
    /// When there is none.
    pub fn numbered(&self, number: u64) -> Result<Snapshot> {
        let transaction = self.database.begin_read()?;
        let numbers = transaction.open_table(NUMBERS)?;
        match numbers.get(number)? {
            Some(name) => self.get(name.value()),
            None => Err(Problem::missing(format!(
                "snapshot number {number} is gone"
            ))),
        }
    }

    /// Whether others are on top of one.
    ///
    /// # Errors
    ///
    /// When the database cannot be read.
    pub fn has_children(&self, name: &str) -> Result<bool> {
        let transaction = self.database.begin_read()?;
        let children = transaction.open_multimap_table(CHILDREN)?;
        Ok(children.get(name)?.next().is_some())
    }

    /// The committed snapshot that is a layer of an image on top of a parent.
    ///
    /// # Errors
    ///
    /// When the database cannot be read.
    pub fn target(&self, target: &str, parent: Option<&str>) -> Result<Option<String>> {
        let transaction = self.database.begin_read()?;
        let targets = transaction.open_table(TARGETS)?;
        let found = targets.get((target, parent.unwrap_or("")))?;
        Ok(found.map(|name| name.value().to_owned()))
    }

    /// A snapshot and those below it, the lowest one last, each with its layer if it is one: all as they are at one moment.
    ///
    /// # Errors
    ///
    /// When one of them is missing.
    pub fn chain(&self, name: &str) -> Result<Vec<(Snapshot, Option<Layer>)>> {
        let transaction = self.database.begin_read()?;
        let snapshots = transaction.open_table(SNAPSHOTS)?;
        let layers = transaction.open_table(LAYERS)?;
        let mut chain = Vec::new();
        let mut next = Some(name.to_owned());
        while let Some(name) = next {
            let snapshot = expect(&snapshots, &name)?;
            let layer = match snapshot.layer {
                Some(digest) => {
                    let found = layer(&layers, digest)?;
                    let missing = || Problem::missing(format!("layer {digest} does not exist"));
                    Some(found.ok_or_else(missing)?)
                }
                None => None,
            };
            next = snapshot.parent.clone();
            chain.push((snapshot, layer));
        }
        Ok(chain)
    }

    /// All snapshots, by their names.
    ///
    /// # Errors
    ///
    /// When one of them cannot be read.
    pub fn all(&self) -> Result<Vec<Snapshot>> {
        let transaction = self.database.begin_read()?;
        let table = transaction.open_table(SNAPSHOTS)?;
        let mut all = Vec::new();
        for entry in table.iter()? {
            let (name, bytes) = entry?;
            all.push(decode(name.value(), bytes.value())?);
        }
        Ok(all)
    }

    /// A layer.
    ///
    /// # Errors
    ///
    /// When the database cannot be read.
    pub fn layer(&self, digest: Digest) -> Result<Option<Layer>> {
        let transaction = self.database.begin_read()?;
        layer(&transaction.open_table(LAYERS)?, digest)
    }

    /// The layer that something in a registry came to.
    ///
    /// # Errors
    ///
    /// When the database cannot be read.
    pub fn stored(&self, digest: Digest) -> Result<Option<(Digest, Layer)>> {
        let transaction = self.database.begin_read()?;
        let stored = transaction.open_table(STORED)?;
        let Some(found) = stored.get(&digest.0)?.map(|found| Digest(*found.value())) else {
            return Ok(None);
        };
        Ok(self.layer(found)?.map(|layer| (found, layer)))
    }

    /// All layers, with the numbers of snapshots that have each.
    ///
    /// # Errors
    ///
    /// When one of them cannot be read.
    pub fn layers(&self) -> Result<Vec<(Digest, Layer, u64)>> {
        let transaction = self.database.begin_read()?;
        let table = transaction.open_table(LAYERS)?;
        let users = transaction.open_multimap_table(USERS)?;
        let mut all = Vec::new();
        for entry in table.iter()? {
            let (digest, bytes) = entry?;
            let digest = Digest(*digest.value());
            let count = users.get(&digest.0)?.count() as u64;
            all.push((digest, serde_json::from_slice(bytes.value())?, count));
        }
        Ok(all)
    }
}

/// Adds a layer, or what else it is called by.
fn put_layer(tables: &Writing<'_>, digest: Digest, layer: &Layer) -> Result<()> {
    let mut layers = tables.0.open_table(LAYERS)?;
    let mut layer = layer.clone();
    if let Some(found) = layers.get(&digest.0)? {
        let found: Layer = serde_json::from_slice(found.value())?;
        layer.stored.extend(found.stored);
    }
    layer.stored.sort();
    layer.stored.dedup();
    let mut stored = tables.0.open_table(STORED)?;
    for name in layer.stored.iter().filter_map(|name| Digest::parse(name)) {
        stored.insert(&name.0, &digest.0)?;
    }
    let bytes = serde_json::to_vec(&layer)?;
    layers.insert(&digest.0, bytes.as_slice())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Scratch(std::path::PathBuf);

    impl Scratch {
        fn new(name: &str) -> Self {
            let path =
                std::env::temp_dir().join(format!("ferofs-catalog-{name}-{}", std::process::id()));
            let _ = std::fs::remove_file(&path);
            Scratch(path)
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = std::fs::remove_file(&self.0);
        }
    }

    fn layer(size: u64, stored: &[Digest]) -> Layer {
        Layer {
            form: Form::Tar,
            size,
            index: 1,
            inodes: 2,
            block_bits: None,
            stored: stored.iter().map(Digest::to_string).collect(),
            verity: None,
            origin: None,
        }
    }

    fn target(name: &str) -> Labels {
        [(TARGET.to_owned(), name.to_owned())].into()
    }

    #[test]
    fn a_layer_goes_with_the_last_snapshot_that_has_it() {
        let scratch = Scratch::new("layers");
        let catalog = Catalog::open(&scratch.0).unwrap();
        let (digest, gzip) = (Digest::of(b"tar"), Digest::of(b"gzip"));
        let one = catalog
            .create(Kind::Active, "one", None, target("chain"), None)
            .unwrap();
        assert!(one.is_for_a_layer());
        catalog
            .apply(one.number, digest, &layer(10, &[gzip]))
            .unwrap();
        let committed = catalog
            .commit("one", "base", None, target("chain"), Content::Applied)
            .unwrap();
        assert_eq!(
            (committed.number, committed.bytes, committed.inodes),
            (one.number, 11, 2)
        );
        // As containerd's own suite wants it.
        assert_eq!(committed.created, committed.updated);
        assert_ne!(committed.created, one.created);
        assert_eq!(
            catalog.target("chain", None).unwrap().as_deref(),
            Some("base")
        );
        assert_eq!(catalog.target("chain", Some("base")).unwrap(), None);
        assert_eq!(catalog.stored(gzip).unwrap().unwrap().0, digest);
        let two = catalog.create_committed("two", Some("base"), target("next"), digest, None);
        assert_eq!(two.unwrap().bytes, 11);
        assert_eq!(catalog.layers().unwrap().len(), 1);
        assert!(!catalog.remove("two").unwrap().1);
        assert!(catalog.remove("base").unwrap().1);
        assert!(catalog.layers().unwrap().is_empty());
        assert!(catalog.stored(gzip).unwrap().is_none());
        assert!(catalog.target("chain", None).unwrap().is_none());
    }

    #[test]
    fn what_is_for_a_layer_shows_by_key_or_label() {
        let chain = format!("sha256:{}", Digest::of(b"chain"));
        for (key, labels, expected) in [
            (
                format!("default/3/extract-362062356-uQJl {chain}"),
                Labels::new(),
                true,
            ),
            (
                format!("extract-362062356-uQ_- {chain}"),
                Labels::new(),
                true,
            ),
            ("default/3/any".into(), target(&chain), true),
            ("default/3/extract-me".into(), Labels::new(), false),
            (format!("default/3/{chain}"), Labels::new(), false),
            (
                format!("default/3/my-extract-1-a {chain}"),
                Labels::new(),
                false,
            ),
        ] {
            assert_eq!(is_for_a_layer(&key, &labels), expected, "{key}");
        }
    }

    #[test]
    fn another_layer_takes_the_place_of_the_first() {
        let scratch = Scratch::new("again");
        let catalog = Catalog::open(&scratch.0).unwrap();
        let one = catalog
            .create(Kind::Active, "one", None, Labels::new(), None)
            .unwrap();
        let (first, second) = (Digest::of(b"1"), Digest::of(b"2"));
        assert_eq!(
            catalog.apply(one.number, first, &layer(1, &[])).unwrap(),
            None
        );
        assert_eq!(
            catalog.apply(one.number, first, &layer(1, &[])).unwrap(),
            None
        );
        assert_eq!(
            catalog.apply(one.number, second, &layer(2, &[])).unwrap(),
            Some(first)
        );
        assert!(catalog.layer(first).unwrap().is_none());
        assert_eq!(catalog.layers().unwrap().len(), 1);
    }

    #[test]
    fn requests_that_make_no_sense_change_nothing() {
        let scratch = Scratch::new("wrong");
        let catalog = Catalog::open(&scratch.0).unwrap();
        let create = |kind, name, parent| catalog.create(kind, name, parent, Labels::new(), None);
        create(Kind::Active, "active", None).unwrap();
        create(Kind::Active, "low", None).unwrap();
        catalog
            .commit("low", "base", None, Labels::new(), Content::Applied)
            .unwrap();
        create(Kind::View, "view", Some("base")).unwrap();
        let before = serde_json::to_string(&catalog.all().unwrap()).unwrap();
        let text = |result: Result<Snapshot>| tonic::Status::from(result.unwrap_err());
        use tonic::Code;
        for (found, code, expected) in [
            (
                text(create(Kind::View, "active", None)),
                Code::AlreadyExists,
                "active already exists",
            ),
            (
                text(create(Kind::View, "x", Some("no"))),
                Code::NotFound,
                "parent snapshot no does not",
            ),
            (
                text(create(Kind::View, "x", Some("active"))),
                Code::InvalidArgument,
                "is active",
            ),
            (
                text(create(Kind::View, "", None)),
                Code::InvalidArgument,
                "needs a name",
            ),
            (
                text(catalog.commit("view", "x", None, Labels::new(), Content::Applied)),
                Code::FailedPrecondition,
                "view is view, expected an active",
            ),
            (
                text(catalog.commit("active", "base", None, Labels::new(), Content::Applied)),
                Code::AlreadyExists,
                "base already exists",
            ),
            (
                text(catalog.commit("active", "x", Some("view"), Labels::new(), Content::Applied)),
                Code::InvalidArgument,
                "is view, expected a committed",
            ),
            (
                text(catalog.remove("base").map(|(snapshot, _)| snapshot)),
                Code::FailedPrecondition,
                "cannot remove snapshot base: view is on top",
            ),
            (
                text(catalog.get("no")),
                Code::NotFound,
                "snapshot no does not exist",
            ),
            (
                text(catalog.update("base", Labels::new(), &["kind".to_owned()])),
                Code::InvalidArgument,
                "only labels",
            ),
        ] {
            assert_eq!(found.code(), code, "{found}");
            assert!(found.message().contains(expected), "{found}");
        }
        assert_eq!(
            serde_json::to_string(&catalog.all().unwrap()).unwrap(),
            before
        );
    }

    #[test]
    fn a_parent_may_come_with_the_commit() {
        let scratch = Scratch::new("rebase");
        let catalog = Catalog::open(&scratch.0).unwrap();
        for name in ["a", "b"] {
            catalog
                .create(Kind::Active, name, None, Labels::new(), None)
                .unwrap();
        }
        catalog
            .commit("a", "low", None, Labels::new(), Content::Applied)
            .unwrap();
        catalog
            .commit("b", "high", Some("low"), Labels::new(), Content::Applied)
            .unwrap();
        let chain = catalog.chain("high").unwrap();
        let names: Vec<_> = chain
            .iter()
            .map(|(snapshot, _)| snapshot.name.as_str())
            .collect();
        assert_eq!(names, ["high", "low"]);
        assert!(catalog.remove("low").is_err());
    }

    #[test]
    fn one_process_has_it() {
        let scratch = Scratch::new("lock");
        let _first = Catalog::open(&scratch.0).unwrap();
        let error = Catalog::open(&scratch.0).err().unwrap().to_string();
        assert!(error.contains("is the daemon running already"), "{error}");
    }
}
