// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! containerd's language of filters, as far as snapshots have fields: `name`, `parent`, `kind` and `labels`.
//!
//! A filter is selectors with commas between them, all of which have to match: a field, and perhaps an operator (`==`,
//! `!=`, `~=` for a regular expression) and a value. A field alone asks whether it is there. What is no word is quoted:
//! `labels."containerd.io/gc.root"`. Of several filters one has to match. The language is that of containerd's package
//! `pkg/filters`. Called by the service for snapshots.

use crate::catalog::Snapshot;
use crate::problem::Problem;
use crate::problem::Result;
use regex::Regex;

/// Filters, of which one has to match; none at all match everything.
#[derive(Debug, Default)]
pub struct Filters(Vec<Vec<Selector>>);

#[derive(Debug)]
struct Selector {
    field: Vec<String>,
    test: Test,
}

#[derive(Debug)]
enum Test {
    Present,
    Equal(String),
    NotEqual(String),
    Matches(Regex),
}

impl Filters {
    /// Understands filters as they are in a request.
    ///
    /// # Errors
    ///
    /// When one of them is no filter: what was expected, and where.
    pub fn parse(filters: &[String]) -> Result<Self> {
        let parsed = filters.iter().map(|filter| {
            let mut parser = Parser {
                text: filter,
                pos: 0,
            };
            parser.filter()
        });
        Ok(Filters(parsed.collect::<Result<_>>()?))
    }

    /// Whether one of them matches.
    pub fn match_snapshot(&self, snapshot: &Snapshot) -> bool {
        self.0.is_empty()
            || self
                .0
                .iter()
                .any(|selectors| selectors.iter().all(|selector| selector.matches(snapshot)))
    }
}

impl Selector {
    fn matches(&self, snapshot: &Snapshot) -> bool {
        let value = value_of(snapshot, &self.field);
        let (value, present) = match value {
            Some(value) => (value, true),
            None => ("", false),
        };
        match &self.test {
            Test::Present => present,
            Test::Equal(expected) => present && value == expected,
            Test::NotEqual(expected) => value != expected,
            Test::Matches(pattern) => present && pattern.is_match(value),
        }
    }
}

fn value_of<'a>(snapshot: &'a Snapshot, field: &[String]) -> Option<&'a str> {
    let (first, rest) = field.split_first()?;
    match (first.as_str(), rest) {
        ("name", []) => Some(snapshot.name.as_str()).filter(|name| !name.is_empty()),
        // One that has no parent has an empty one: containerd asks for the lowest layer of an image that way.
        ("parent", []) => Some(snapshot.parent.as_deref().unwrap_or("")),
        ("kind", []) => Some(snapshot.kind.word()),
        ("labels", [_, ..]) => snapshot.labels.get(&rest.join(".")).map(String::as_str),
        _ => None,
    }
}

struct Parser<'a> {
    text: &'a str,
    pos: usize,
}

impl Parser<'_> {
    fn left(&self) -> &str {
        self.text.get(self.pos..).unwrap_or("")
    }

    fn take(&mut self, word: &str) -> bool {
        let found = self.left().starts_with(word);
        if found {
            self.pos += word.len();
        }
        found
    }

    fn expected<T>(&self, what: &str) -> Result<T> {
        Err(Problem::invalid(format!(
            "filter {:?}: expected {what} at byte {}",
            self.text, self.pos
        )))
    }

    fn filter(&mut self) -> Result<Vec<Selector>> {
        let mut selectors = vec![self.selector()?];
        while self.take(",") {
            selectors.push(self.selector()?);
        }
        match self.left().is_empty() {
            true => Ok(selectors),
            false => self.expected("a comma or the end"),
        }
    }

    fn selector(&mut self) -> Result<Selector> {
        let mut field = vec![self.field()?];
        while self.take(".") {
            field.push(self.field()?);
        }
        let test = if self.take("==") {
            Test::Equal(self.value(false)?)
        } else if self.take("!=") {
            Test::NotEqual(self.value(false)?)
        } else if self.take("~=") {
            let at = self.pos;
            let pattern = self.value(true)?;
            match Regex::new(&pattern) {
                Ok(pattern) => Test::Matches(pattern),
                Err(_) => {
                    self.pos = at;
                    return self.expected("a regular expression");
                }
            }
        } else {
            Test::Present
        };
        Ok(Selector { field, test })
    }

    fn field(&mut self) -> Result<String> {
        if self.left().starts_with('"') {
            return self.quoted('"');
        }
        self.word(
            |letter| letter.is_ascii_alphanumeric() || letter == '_',
            "a field",
        )
    }

    fn value(&mut self, pattern: bool) -> Result<String> {
        match self.left().chars().next() {
            Some('"') => self.quoted('"'),
            Some(mark @ ('/' | '|')) if pattern => self.quoted(mark),
            _ => self.word(|letter| letter != ',' && !letter.is_whitespace(), "a value"),
        }
    }

    fn word(&mut self, is_part: impl Fn(char) -> bool, what: &str) -> Result<String> {
        let left = self.left();
        let len = left.find(|letter| !is_part(letter)).unwrap_or(left.len());
        if len == 0 {
            return self.expected(what);
        }
        let word = left.get(..len).unwrap_or("").to_owned();
        self.pos += len;
        Ok(word)
    }

    /// What is between two marks. A backslash takes the next letter as it is, or means what it means in Go.
    fn quoted(&mut self, mark: char) -> Result<String> {
        let mut text = String::new();
        let left = self.left().to_owned();
        let mut letters = left.char_indices().skip(1);
        while let Some((at, letter)) = letters.next() {
            match letter {
                letter if letter == mark => {
                    self.pos += at + letter.len_utf8();
                    return Ok(text);
                }
                // In a regular expression a backslash is its own, unless it is before the mark.
                '\\' if mark != '"' => match letters.next() {
                    Some((_, next)) if next == mark => text.push(next),
                    Some((_, next)) => text.extend(['\\', next]),
                    None => break,
                },
                '\\' => match letters.next() {
                    Some((_, 'n')) => text.push('\n'),
                    Some((_, 't')) => text.push('\t'),
                    Some((_, 'r')) => text.push('\r'),
                    Some((_, next @ ('"' | '\\' | '\''))) => text.push(next),
                    _ => return self.expected("a known escape in the text in quotes"),
                },
                letter => text.push(letter),
            }
        }
        self.expected("a text with a mark at its end")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::Kind;

    fn snapshot() -> Snapshot {
        let labels = [
            ("containerd.io/snapshot.ref", "sha256:abc"),
            ("plain", "a value"),
            ("a.b", "dotted"),
        ];
        Snapshot {
            name: "default/3/app".into(),
            parent: Some("default/1/base".into()),
            kind: Kind::Committed,
            labels: labels
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .into(),
            ..Snapshot::default()
        }
    }

    #[test]
    fn filters_match_as_containerds_do() {
        for (filters, expected) in [
            (&[][..], true),
            (&["name==default/3/app"], true),
            (&["name==app"], false),
            (&["name!=app"], true),
            (&["name~=^default/"], true),
            (&["name~=/app$/"], true),
            (&[r"name~=/default\/3/"], true),
            (&["name~=|^x|"], false),
            (&["kind==committed"], true),
            (&["kind==active"], false),
            (&["parent"], true),
            (&[r#"parent=="default/1/base""#], true),
            (&["labels.plain"], true),
            (&["labels.absent"], false),
            (&["labels.absent!=x"], true),
            (&["labels.absent==\"\""], false),
            (&[r#"labels.plain=="a value""#], true),
            (&["labels.a.b==dotted"], true),
            (&[r#"labels."a.b"==dotted"#], true),
            (
                &[r#"labels."containerd.io/snapshot.ref"==sha256:abc,parent=="default/1/base""#],
                true,
            ),
            (
                &[r#"labels."containerd.io/snapshot.ref"==sha256:abc,parent=="""#],
                false,
            ),
            (&["name==no", "kind==committed"], true),
            (&["name==no", "kind==view"], false),
            (&["unknown"], false),
        ] {
            let filters: Vec<String> = filters.iter().map(|filter| (*filter).to_owned()).collect();
            let parsed = Filters::parse(&filters).unwrap();
            assert_eq!(parsed.match_snapshot(&snapshot()), expected, "{filters:?}");
        }
    }

    #[test]
    fn what_is_no_filter_is_refused() {
        for (filter, expected) in [
            ("", "a field at byte 0"),
            ("name==", "a value at byte 6"),
            ("name=x", "a comma or the end at byte 4"),
            ("name==x,", "a field at byte 8"),
            ("name~=(", "a regular expression at byte 6"),
            (r#"labels."open"#, "a mark at its end at byte 7"),
            (r#"name=="a\q""#, "a known escape"),
            ("labels.", "a field at byte 7"),
        ] {
            let error = Filters::parse(&[filter.to_owned()])
                .unwrap_err()
                .to_string();
            assert!(error.contains(expected), "{filter}: {error}");
        }
    }

    #[test]
    fn the_parent_of_a_snapshot_without_one_is_empty() {
        let lowest = Snapshot {
            parent: None,
            ..snapshot()
        };
        for (parent, expected) in [("", true), ("default/1/base", false)] {
            let filter = [format!(
                r#"labels."containerd.io/snapshot.ref"==sha256:abc,parent=="{parent}""#
            )];
            let filters = Filters::parse(&filter).unwrap();
            assert_eq!(filters.match_snapshot(&lowest), expected);
        }
    }
}
