//! `hsm.toml`: which clusters there are, and by which library each is reached.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use serde::Deserialize;

use super::Cluster;

/// The name of the file in the state folder.
const FILE: &str = "hsm.toml";

/// All clusters.
#[derive(Default)]
pub(in crate::kms) struct Clusters(Vec<Cluster>);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    cluster: Vec<Entry>,
}

/// A `[[cluster]]` of the file.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Entry {
    /// As AWS `CloudHSM` names clusters.
    pub(super) id: String,
    /// The PKCS#11 library.
    pub(super) module: PathBuf,
    /// The token's label; the first token without it.
    pub(super) token: Option<String>,
    /// If there is one, the library is given `USER:PASSWORD`, as AWS's wants it.
    pub(super) user: Option<String>,
    /// The certificate that signed the cluster's, in PEM; relative to the file.
    pub(super) trust_anchor: PathBuf,
}

impl Clusters {
    /// Reads `file`, or `hsm.toml` in the state folder if there is one.
    ///
    /// # Errors
    /// [`io::Error`] names the file and what is wrong with it. Libraries are not looked at.
    pub(in crate::kms) fn open(file: Option<&Path>, folder: &Path) -> io::Result<Self> {
        let usual = folder.join(FILE);
        let path = match file {
            Some(path) => path,
            None if usual.try_exists()? => &usual,
            None => return Ok(Self::default()),
        };
        Self::parse(&fs_err::read_to_string(path)?, path.parent().unwrap_or(Path::new(".")))
            .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))
    }

    fn parse(text: &str, folder: &Path) -> io::Result<Self> {
        let wrong = |text: String| io::Error::new(io::ErrorKind::InvalidData, text);
        let file: File = toml::from_str(text).map_err(|error| wrong(error.message().to_owned()))?;
        let (mut ids, mut tokens) = (BTreeSet::new(), BTreeSet::new());
        let mut clusters = Vec::with_capacity(file.cluster.len());
        for entry in file.cluster {
            if !is_cluster_id(&entry.id) {
                return Err(wrong(format!(
                    "{:?} is not the id of a cluster: cluster- and 11 to 16 letters and digits",
                    entry.id
                )));
            }
            if !ids.insert(entry.id.clone()) {
                return Err(wrong(format!("{} is there twice", entry.id)));
            }
            // A login is for a whole token, so two clusters would share one.
            if !tokens.insert((entry.module.clone(), entry.token.clone())) {
                return Err(wrong(format!("{} has the token of another cluster", entry.id)));
            }
            let path = folder.join(&entry.trust_anchor);
            let anchor = parse_anchor(&fs_err::read(&path)?)
                .ok_or_else(|| wrong(format!("{} is not a certificate in PEM", path.display())))?;
            clusters.push(Cluster::new(entry, anchor));
        }
        Ok(Self(clusters))
    }

    pub(in crate::kms) fn get(&self, id: &str) -> Option<&Cluster> {
        self.0.iter().find(|cluster| cluster.id() == id)
    }

    /// The clusters that have this cluster's certificate, as those made from its backups do.
    pub(in crate::kms) fn related<'a>(&'a self, to: &'a Cluster) -> impl Iterator<Item = &'a Cluster> {
        self.0.iter().filter(move |cluster| cluster.anchor() == to.anchor())
    }
}

/// The certificate in a PEM text.
pub(in crate::kms) fn parse_anchor(pem: &[u8]) -> Option<CertificateDer<'static>> {
    CertificateDer::from_pem_slice(pem).ok()
}

/// As long as the API wants it. `CloudHSM`'s own pattern has no 0, 1, 8 and 9; AWS's examples have.
fn is_cluster_id(id: &str) -> bool {
    id.strip_prefix("cluster-").is_some_and(|rest| {
        (11..=16).contains(&rest.len()) && rest.bytes().all(|byte| byte.is_ascii_alphanumeric())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str =
        "[[cluster]]\nid = \"cluster-abcdefghijk\"\nmodule = \"/lib/a.so\"\ntrust_anchor = \"ca.pem\"\n";

    fn refusal(text: &str) -> String {
        let folder = tempfile::tempdir().unwrap();
        let key = rcgen::generate_simple_self_signed(Vec::new()).unwrap();
        std::fs::write(folder.path().join("ca.pem"), key.cert.pem()).unwrap();
        std::fs::write(folder.path().join("no.pem"), "nothing").unwrap();
        std::fs::write(folder.path().join("hsm.toml"), text).unwrap();
        match Clusters::open(None, folder.path()) {
            Ok(clusters) => {
                assert!(clusters.get("cluster-abcdefghijk").is_some());
                String::new()
            }
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn reads_clusters_and_names_what_is_wrong() {
        assert_eq!(refusal(ONE), "");
        assert!(refusal(&format!("{ONE}{ONE}")).ends_with("cluster-abcdefghijk is there twice"));
        let other = ONE.replace("abcdefghijk", "bbcdefghijk");
        assert!(
            refusal(&format!("{ONE}{other}"))
                .ends_with("cluster-bbcdefghijk has the token of another cluster")
        );
        assert_eq!(refusal(&format!("{ONE}{other}token = \"b\"\n")), "");
        assert!(refusal(&ONE.replace("cluster-abc", "cluster-a_c")).contains("is not the id of a cluster"));
        assert!(refusal(&ONE.replace("ca.pem", "no.pem")).ends_with("no.pem is not a certificate in PEM"));
        assert!(refusal(&format!("{ONE}pin = \"1234\"\n")).contains("unknown field `pin`"));
    }

    #[test]
    fn there_are_no_clusters_without_a_file_unless_one_was_named() {
        let folder = tempfile::tempdir().unwrap();
        assert!(Clusters::open(None, folder.path()).unwrap().get("cluster-abcdefghijk").is_none());
        let named = Clusters::open(Some(&folder.path().join("other.toml")), folder.path());
        assert_eq!(named.err().unwrap().kind(), io::ErrorKind::NotFound);
    }
}
