//! `[tls]`: certificates and their keys.

use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use super::Resolver;
use super::auth::beside;
use crate::config::document::{Document, Item, Value};
use crate::config::exposure::{self, Exposure};
use crate::config::{SecretPlace, SecretSource, Tls, read_pair};
use crate::tls::{Files, Part};

/// Pairs of a server. Each handshake may look at all of them, and each has a time series.
pub const PAIRS_MAX: usize = 100;

impl<'a> Resolver<'a> {
    pub(super) fn tls(&mut self) -> Tls {
        let mut tls = Tls {
            files: Vec::new(),
            pairs: Vec::new(),
            acme: self.acme(),
        };
        let (cert, key) = (self.filled("tls.cert"), self.filled("tls.key"));
        match (cert, key) {
            (Some(cert), Some(key)) => {
                self.pair([("tls.cert", cert), ("tls.key", key)], &mut tls);
            }
            (Some(cert), None) => {
                let remedy = "set tls.key to the PEM file with its private key";
                self.refuse(&cert.origin, "tls.cert", "has no key", remedy);
            }
            (None, Some(key)) => {
                let remedy = "set tls.cert to the PEM file with the certificate and its chain";
                self.refuse(&key.origin, "tls.key", "has no certificate", remedy);
            }
            (None, None) => {}
        }
        let path = "tls.additional";
        let Some(setting) = self.document.get(path) else {
            return tls;
        };
        let Value::Tables(tables) = &setting.value else {
            unreachable!("the schema says that {path} is a list of tables")
        };
        if tables.len() >= PAIRS_MAX {
            let what = format!("makes more than {PAIRS_MAX} certificates");
            let remedy = "use certificates with several names, or a wildcard";
            self.refuse(&setting.origin, path, what, remedy);
            return tls;
        }
        if !tables.is_empty() && cert.is_none() && key.is_none() {
            let what = "is beside no tls.cert, the one for clients that ask for no name";
            let remedy = "make one of them tls.cert and tls.key";
            self.refuse(&setting.origin, path, what, remedy);
        }
        for table in tables {
            self.additional(table, &mut tls);
        }
        tls
    }

    fn additional(&mut self, table: &'a Document, tls: &mut Tls) {
        let keys = ["tls.additional.cert", "tls.additional.key"];
        // The keys of the one table are read as those of the whole document are.
        let document = std::mem::replace(&mut self.document, table);
        let items = keys.map(|key| self.filled(key));
        self.document = document;
        for (key, item) in keys.into_iter().zip(items) {
            if item.is_none() {
                let remedy = "write both: { cert = \"FILE\", key = \"FILE\" }";
                self.refuse(table.written(), key, "is missing", remedy);
            }
        }
        if let [Some(cert), Some(key)] = items {
            self.pair([(keys[0], cert), (keys[1], key)], tls);
        }
    }

    /// Takes a pair that is in files, with the keys and the values that name them.
    fn pair(&mut self, named: [(&str, &Item); 2], tls: &mut Tls) {
        let [cert, key] =
            named.map(|(_, item)| beside(&item.origin, Path::new(item.text.as_str())));
        let files = Files { cert, key };
        if tls.files.contains(&files) {
            let (key, item) = named[0];
            let what = format!("{} is listed twice", files.cert.display());
            self.refuse(&item.origin, key, what, "remove one of the two");
            return;
        }
        tls.files.push(files.clone());
        let pair = match read_pair(&files) {
            Ok(pair) => pair,
            Err(error) => {
                let (key, item) = named[usize::from(error.part == Part::Key)];
                let what = format!("{} {}", files.path(error.part).display(), error.what);
                if error.is_unreadable && self.host.is_elsewhere {
                    let remedy = "see that it is on the machine that it is for";
                    self.warn(&item.origin, key, what, remedy);
                } else {
                    self.refuse(&item.origin, key, what, error.remedy);
                }
                return;
            }
        };
        let [(cert_key, cert), (key_key, key)] = named;
        let now_unix_s = SystemTime::now().duration_since(UNIX_EPOCH);
        let now_unix_s = now_unix_s.map_or(0, |now| now.as_secs()) as i64;
        for flaw in pair.flaws(now_unix_s) {
            let what = format!("{} {}", files.cert.display(), flaw.what());
            self.warn(&cert.origin, cert_key, what, flaw.remedy());
        }
        let user = self.server_user();
        let exposed = exposure::to_readers(&files.key, user);
        let exposed = exposed
            .into_iter()
            .chain(exposure::to_writers(&files.key, user));
        for Exposure { what, remedy } in exposed.collect::<Vec<_>>() {
            self.warn(&key.origin, key_key, what, remedy);
        }
        self.secrets.push(SecretSource {
            key: "tls.key",
            place: SecretPlace::File(files.key.clone()),
        });
        self.files.extend([files.cert, files.key]);
        tls.pairs.push(Arc::new(pair));
    }
}
