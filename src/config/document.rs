//! The configuration as written: known keys with values of the right shape, each with its origin.
//!
//! Layers (file, environment, flags) are all of this one type, so that overriding is one operation
//! and an error can say where the value that won was written.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};
use zeroize::{Zeroize, Zeroizing};

use super::error::{Origin, Problem};
use super::schema::{self, Key, Shape};

/// One text. It may be a secret, hence wiped when dropped and without `Debug`.
pub(super) struct Item {
    pub(super) text: Zeroizing<String>,
    pub(super) origin: Origin,
}

impl Item {
    pub(super) fn new(text: impl Into<String>, origin: &Origin) -> Self {
        Self {
            text: Zeroizing::new(text.into()),
            origin: origin.clone(),
        }
    }
}

/// A value of the shape that the schema demands.
pub(super) enum Value {
    Text(Item),
    Switch(bool),
    Number(i64),
    List(Vec<Item>),
    /// There may be no name when the layer is a text one: see [`Setting::from_text`].
    Map(Vec<(Option<String>, Item)>),
}

/// A value and where it was written.
pub(super) struct Setting {
    pub(super) value: Value,
    pub(super) origin: Origin,
}

/// One layer of configuration, or several merged.
#[derive(Default)]
pub(super) struct Document {
    settings: BTreeMap<&'static str, Setting>,
}

impl Document {
    pub(super) fn get(&self, path: &str) -> Option<&Setting> {
        debug_assert!(
            schema::find(path).is_some(),
            "{path} is missing from the schema"
        );
        self.settings.get(path)
    }

    pub(super) fn set(&mut self, key: &Key, setting: Setting) {
        self.settings.insert(key.path, setting);
    }

    /// The configuration file, if it sets anything.
    pub(super) fn file(&self) -> Option<&Path> {
        self.settings
            .values()
            .find_map(|setting| match &setting.origin {
                Origin::File { path, .. } => Some(Path::new(path.as_ref())),
                _ => None,
            })
    }

    /// Drops the settings written where `is_broken` says so: what the parser made of such a line
    /// need not be what was meant.
    pub(super) fn forget(&mut self, is_broken: impl Fn(&Origin) -> bool) {
        self.settings
            .retain(|_, setting| !is_broken(&setting.origin));
    }

    /// Puts `upper` on top: a key that it sets replaces this layer's value whole, lists and tables
    /// included.
    pub(super) fn overlay(&mut self, upper: Self) {
        for alternatives in schema::ALTERNATIVES {
            if alternatives
                .iter()
                .any(|path| upper.settings.contains_key(path))
            {
                self.settings.retain(|path, _| !alternatives.contains(path));
            }
        }
        self.settings.extend(upper.settings);
    }
}

impl Setting {
    /// Takes a TOML value; `origin` tells where a span of it was written. Of a list or a table it
    /// takes what has the right shape, so that further errors in it are found.
    pub(super) fn from_toml(
        key: &Key,
        value: &Spanned<DeValue<'_>>,
        origin: &dyn Fn(&std::ops::Range<usize>) -> Origin,
        problems: &mut Vec<Problem>,
    ) -> Option<Self> {
        let here = origin(&value.span());
        let converted = match (key.shape, value.get_ref()) {
            (Shape::Text, DeValue::String(text)) => Value::Text(Item::new(text.as_ref(), &here)),
            (Shape::Switch, DeValue::Boolean(on)) => Value::Switch(*on),
            (Shape::Number, DeValue::Integer(digits)) => {
                match i64::from_str_radix(digits.as_str(), digits.radix()) {
                    Ok(number) => Value::Number(number),
                    Err(_) => {
                        problems.push(wrong_shape(key, "a number this large", &here));
                        return None;
                    }
                }
            }
            (Shape::List, DeValue::String(text)) => {
                Value::List(vec![Item::new(text.as_ref(), &here)])
            }
            (Shape::List, DeValue::Array(array)) => {
                let items = array.iter().map(|element| {
                    let here = origin(&element.span());
                    text_item(key, "", element, here)
                });
                Value::List(collect(items, problems)?)
            }
            (Shape::Map, DeValue::Table(table)) => {
                let entries = table.iter().map(|(name, element)| {
                    // The name's line: a value may start on it only, but a table may span many.
                    let here = origin(&name.span());
                    let item = text_item(key, name.get_ref(), element, here)?;
                    Ok((Some(name.get_ref().to_string()), item))
                });
                Value::Map(collect(entries, problems)?)
            }
            (_, other) => {
                problems.push(wrong_shape(key, found(other), &here));
                return None;
            }
        };
        Some(Self {
            value: converted,
            origin: here,
        })
    }

    /// Takes the text of an environment variable.
    ///
    /// Lists are comma separated and tables are `name=value` pairs; TOML syntax (`["a", "b"]`,
    /// `{ name = "value" }`) works too, for values with a comma in them. A pair without `=` gets
    /// no name: `relay.external` has a meaning for it.
    pub(super) fn from_text(
        key: &Key,
        text: &str,
        origin: &Origin,
        problems: &mut Vec<Problem>,
    ) -> Option<Self> {
        let text = text.trim();
        let value = match key.shape {
            Shape::Text => Value::Text(Item::new(text, origin)),
            Shape::Switch => match text {
                "true" => Value::Switch(true),
                "false" => Value::Switch(false),
                _ => {
                    let what = "is neither true nor false";
                    problems.push(Problem::new(origin, key.path, what, "write true or false"));
                    return None;
                }
            },
            Shape::Number => match text.parse() {
                Ok(number) => Value::Number(number),
                Err(_) => {
                    let what = "is not a whole number";
                    let remedy = "write digits only, without a unit";
                    problems.push(Problem::new(origin, key.path, what, remedy));
                    return None;
                }
            },
            Shape::List if is_toml_array(text) => {
                return Self::from_toml_text(key, text, origin, problems);
            }
            Shape::List => Value::List(split(text).map(|part| Item::new(part, origin)).collect()),
            Shape::Map if text.starts_with('{') => {
                return Self::from_toml_text(key, text, origin, problems);
            }
            Shape::Map => Value::Map(split(text).map(|part| pair(part, '=', origin)).collect()),
        };
        Some(Self {
            value,
            origin: origin.clone(),
        })
    }

    fn from_toml_text(
        key: &Key,
        text: &str,
        origin: &Origin,
        problems: &mut Vec<Problem>,
    ) -> Option<Self> {
        let document = Zeroizing::new(format!("value = {text}"));
        let mut table = match DeTable::parse(&document) {
            Ok(table) => table,
            Err(error) => {
                let what = format!("is not valid TOML ({})", error.message());
                problems.push(Problem::new(
                    origin,
                    key.path,
                    what,
                    key.shape.instruction(),
                ));
                return None;
            }
        };
        let value = table
            .get_ref()
            .get("value")
            .expect("the document has this key");
        let setting = Self::from_toml(key, value, &|_| origin.clone(), problems);
        wipe(table.get_mut());
        setting
    }
}

/// A name, `separator` and a value; or a value without a name.
pub(super) fn pair(text: &str, separator: char, origin: &Origin) -> (Option<String>, Item) {
    match text.split_once(separator) {
        Some((name, value)) => (Some(name.trim().to_owned()), Item::new(value, origin)),
        None => (None, Item::new(text, origin)),
    }
}

/// Erases the texts that the parser had to copy because of escapes in them; the others are part of
/// the text that was parsed.
pub(super) fn wipe(table: &mut DeTable<'_>) {
    for (_, value) in table.iter_mut() {
        wipe_value(value.get_mut());
    }
}

fn wipe_value(value: &mut DeValue<'_>) {
    match value {
        DeValue::String(Cow::Owned(text)) => text.zeroize(),
        DeValue::Array(array) => {
            for value in array.iter_mut() {
                wipe_value(value.get_mut());
            }
        }
        DeValue::Table(table) => wipe(table),
        _ => {}
    }
}

fn split(text: &str) -> impl Iterator<Item = &str> {
    text.split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty())
}

/// Tells `["a"]` from `[::]:3478`.
fn is_toml_array(text: &str) -> bool {
    text.strip_prefix('[')
        .is_some_and(|rest| rest.trim_start().starts_with(['"', '\'', ']']))
}

fn text_item(
    key: &Key,
    name: &str,
    value: &Spanned<DeValue<'_>>,
    origin: Origin,
) -> Result<Item, Problem> {
    match value.get_ref() {
        DeValue::String(text) => Ok(Item::new(text.as_ref(), &origin)),
        other => {
            let what = match name {
                "" => format!("holds {} where text is expected", found(other)),
                name => format!("holds {} for {name:?} where text is expected", found(other)),
            };
            Err(Problem::new(
                &origin,
                key.path,
                what,
                key.shape.instruction(),
            ))
        }
    }
}

fn wrong_shape(key: &Key, found: &str, origin: &Origin) -> Problem {
    let what = match key.shape {
        Shape::Text => "must be text",
        Shape::Switch => "must be true or false",
        Shape::Number => "must be a whole number",
        Shape::List => "must be text or a list of texts",
        Shape::Map => "must be a table of texts",
    };
    Problem::new(
        origin,
        key.path,
        format!("{what}, not {found}"),
        key.shape.instruction(),
    )
}

/// The type of a value, never the value: it may be a secret in the wrong place.
fn found(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "text",
        DeValue::Integer(_) => "a number",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

/// The good ones of several values. If none is, there is no value: an empty one would be another
/// mistake.
fn collect<T>(
    results: impl Iterator<Item = Result<T, Problem>>,
    problems: &mut Vec<Problem>,
) -> Option<Vec<T>> {
    let mut values = Vec::new();
    let before = problems.len();
    for result in results {
        match result {
            Ok(value) => values.push(value),
            Err(problem) => problems.push(problem),
        }
    }
    (problems.len() == before || !values.is_empty()).then_some(values)
}
