//! From the sources (file, environment, flags) to one checked [`Config`].

use std::io::ErrorKind;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue, Error};
use zeroize::Zeroizing;

use super::document::{Document, Item, Setting, Value, pair, wipe};
use super::environment::Environment;
use super::error::{Origin, Problem, Problems};
use super::schema::{self, Shape};
use super::secret_source::SecretSource;
use super::{Config, Host, environment, exposure, files, resolve};

/// Where a file is looked for when none is named.
const SYSTEM_FILE: &str = "/etc/turnstone/turnserver.toml";

/// What a configuration is made of. Flags override the environment, which overrides the file, which
/// overrides the unit's credentials.
#[derive(Debug, Default)]
pub struct Sources {
    /// The TOML file; the built-in defaults when there is none.
    pub file: Option<PathBuf>,
    /// The process's environment, or part of it; only names with our prefix are read, and the
    /// directory of the unit's credentials.
    pub environment: Environment,
    /// What the command line sets.
    pub flags: Vec<Flag>,
}

/// One command line option that sets a key.
pub struct Flag {
    /// The key, e.g. `relay.addresses`. It must be one of the schema.
    pub key: &'static str,
    /// The option as the operator typed it, for messages.
    pub name: &'static str,
    /// Its values, one an occurrence.
    pub values: Vec<Zeroizing<String>>,
    /// What stands between name and value when the key is a table.
    pub separator: char,
}

impl std::fmt::Debug for Flag {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The values may be secrets.
        write!(f, "{}={} value(s)", self.name, self.values.len())
    }
}

/// A configuration that `run` accepts.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The resolved configuration.
    pub config: Config,
    /// What is allowed and still likely to be a mistake.
    pub warnings: Vec<Problem>,
    /// The files that were read: the configuration, and what it names.
    pub files: Vec<PathBuf>,
    /// Where the secrets come from, in the order of their use.
    pub secrets: Vec<SecretSource>,
}

/// The file that is read when none is named: the packaged place, if there is one.
pub fn system_file() -> Option<PathBuf> {
    let path = Path::new(SYSTEM_FILE);
    path.exists().then(|| path.to_owned())
}

/// Reads and checks the sources.
///
/// # Errors
///
/// Every problem of every source at once; none of the texts holds a secret.
///
/// # Panics
///
/// If a flag names a key that does not exist, which is a bug of the caller.
pub fn load(sources: &Sources, host: &Host) -> Result<Loaded, Problems> {
    let mut problems = Vec::new();
    let mut document = environment::credentials(&sources.environment);
    document.overlay(environment::places(&sources.environment));
    let credentials = environment::CREDENTIALS.map(|(_, key)| {
        let origin = document.get(key)?.origin.clone();
        Some((key, origin))
    });
    if let Some(path) = &sources.file {
        let text = read_file(path, &mut problems);
        document.overlay(text.map_err(|problem| Problems::new(vec![problem]))?);
    }
    document.overlay(environment::read(&sources.environment, &mut problems));
    document.overlay(from_flags(&sources.flags, &mut problems));
    let mut loaded = resolve::resolve(&document, host, problems)?;
    // One that sets nothing yet will be read again too.
    loaded.files.extend(sources.file.clone());
    let credentials = credentials.into_iter().flatten();
    let unused = credentials.filter_map(|(key, origin)| unused(key, &origin, &document));
    loaded.warnings.extend(unused);
    if loaded.config.auth.is_empty() {
        let missing = environment::missing_credential(&sources.environment);
        loaded.warnings.extend(missing);
    }
    Ok(loaded)
}

/// The operators' socket that the sources name, whatever else is wrong with them: who asks a server
/// to reload a file that is broken has to reach it.
pub fn admin_socket(sources: &Sources) -> Option<PathBuf> {
    let mut problems = Vec::new();
    let mut document = Document::default();
    if let Some(path) = &sources.file {
        document.overlay(read_file(path, &mut problems).unwrap_or_default());
    }
    document.overlay(environment::read(&sources.environment, &mut problems));
    match &document.get("admin.socket")?.value {
        Value::Text(item) if !item.text.is_empty() => Some(item.text.as_str().into()),
        _ => None,
    }
}

/// Reads the configuration file. What is wrong in it is added to `problems`.
///
/// # Errors
/// If there is no such file, or it cannot be read.
fn read_file(path: &Path, problems: &mut Vec<Problem>) -> Result<Document, Problem> {
    let name: Arc<str> = path.to_string_lossy().into();
    let error = match files::read(path, files::CONFIGURATION_MAX) {
        Ok(text) => return Ok(read_toml(&name, &text, problems)),
        Err(error) => error,
    };
    let origin = Origin::File {
        path: name,
        line: 0,
    };
    let what = format!("cannot be read ({error})");
    let remedy = match error.kind() {
        ErrorKind::PermissionDenied => exposure::READABLE,
        ErrorKind::InvalidInput => "name a regular file of at most 1 MiB",
        _ => "check the path and that this user may read it, or leave out --config",
    };
    Err(Problem::new(&origin, "", what, remedy))
}

/// An operator who has set up a credential believes that it is used.
fn unused(key: &str, credential: &Origin, document: &Document) -> Option<Problem> {
    let pair = schema::ALTERNATIVES.iter().find(|pair| pair.contains(&key));
    let used = pair?.iter().find_map(|key| document.get(key))?;
    let what = format!(
        "the unit's credential is not used: {} names another",
        used.origin
    );
    let remedy = "remove one of the two";
    (used.origin != *credential).then(|| Problem::new(credential, key, what, remedy))
}

fn from_flags(flags: &[Flag], problems: &mut Vec<Problem>) -> Document {
    let mut document = Document::default();
    for flag in flags {
        let Some(last) = flag.values.last() else {
            continue;
        };
        let key = schema::find(flag.key).expect("flags name keys of the schema");
        let origin = Origin::Flag(flag.name);
        let texts = flag.values.iter();
        let value = match key.shape {
            Shape::List => Value::List(
                texts
                    .map(|text| Item::new(text.as_str(), &origin))
                    .collect(),
            ),
            Shape::Map => Value::Map(
                texts
                    .map(|text| pair(text, flag.separator, &origin))
                    .collect(),
            ),
            Shape::Text | Shape::Switch | Shape::Number | Shape::Tables(_) => {
                if let Some(setting) = Setting::from_text(key, last, &origin, problems) {
                    document.set(key, setting);
                }
                continue;
            }
        };
        document.set(key, Setting { value, origin });
    }
    document
}

/// Reads a file's text. What is broken is left out of the document and added to `problems`.
pub(super) fn read_toml(name: &Arc<str>, text: &str, problems: &mut Vec<Problem>) -> Document {
    let line = |offset: usize| 1 + text[..offset.min(text.len())].matches('\n').count();
    let origin = |span: &Range<usize>| Origin::File {
        path: Arc::clone(name),
        line: line(span.start),
    };
    let (mut root, errors) = DeTable::parse_recoverable(text);
    let broken = syntax_problems(&errors, &origin);
    let mut reader = Reader {
        origin: &origin,
        document: Document::default(),
        problems: vec![],
    };
    reader.table("", root.get_ref());
    wipe(root.get_mut());
    // After a broken `[section]` line the keys below it belong to nobody knows which section: what
    // is wrong with them is told when the line has been mended.
    let lines: Vec<&str> = text.lines().collect();
    let section_broken = broken.iter().any(|problem| match problem.origin {
        Origin::File { line, .. } => lines
            .get(line - 1)
            .is_some_and(|line| line.trim_start().starts_with('[')),
        _ => false,
    });
    if !section_broken {
        let on_other_line = |problem: &Problem| broken.iter().all(|b| b.origin != problem.origin);
        problems.extend(reader.problems.into_iter().filter(on_other_line));
    }
    let mut document = reader.document;
    document.forget(|origin| broken.iter().any(|problem| problem.origin == *origin));
    problems.extend(broken);
    document
}

/// The parser's own text would quote the line, which may hold a secret.
fn syntax_problems(errors: &[Error], origin: &dyn Fn(&Range<usize>) -> Origin) -> Vec<Problem> {
    let mut problems: Vec<Problem> = Vec::new();
    for error in errors {
        let origin = origin(&error.span().unwrap_or(0..0));
        // The first error of a line is the cause of the others.
        if problems.iter().any(|problem| problem.origin == origin) {
            continue;
        }
        let remedy = if error.message().contains("duplicate key") {
            "write it once; a list takes several values"
        } else {
            "write key = value, with text in \"quotes\" and lists in [brackets]"
        };
        let what = format!("is not valid TOML ({})", error.message());
        problems.push(Problem::new(&origin, "", what, remedy));
    }
    problems
}

struct Reader<'a> {
    origin: &'a dyn Fn(&Range<usize>) -> Origin,
    document: Document,
    problems: Vec<Problem>,
}

impl Reader<'_> {
    /// Takes the keys of the root (`section` is empty) or of a section, and those of sections in it.
    fn table(&mut self, section: &str, table: &DeTable<'_>) {
        for (name, value) in table {
            let path = match section {
                "" => name.get_ref().to_string(),
                section => format!("{section}.{}", name.get_ref()),
            };
            match value.get_ref() {
                DeValue::Table(inner) if schema::is_section(&path) => {
                    self.table(&path, inner);
                }
                _ => self.entry(&path, (self.origin)(&name.span()), value),
            }
        }
    }

    fn entry(&mut self, path: &str, origin: Origin, value: &Spanned<DeValue<'_>>) {
        if let Some(key) = schema::find(path) {
            let problems = &mut self.problems;
            if let Some(setting) = Setting::from_toml(key, value, self.origin, problems) {
                self.document.set(key, setting);
            }
        } else if schema::is_section(path) {
            let remedy = format!("write [{path}] on a line of its own and its keys below");
            self.problems.push(Problem::new(
                &origin,
                path,
                "is a section, not a key",
                remedy,
            ));
        } else {
            let remedy = schema::remedy_for_unknown(path, value.get_ref().is_table());
            self.problems
                .push(Problem::new(&origin, path, "is not a known key", remedy));
        }
    }
}
