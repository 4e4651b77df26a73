//! Everything that `up` and `demo` start: local KMS, key, policy, enclave, parent.
//!
//! The order is that of a real installation: a key exists first, the policy names it, the image is
//! measured with the policy, the key's policy names the measurements, and only then does an
//! enclave start.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use adyton_parent::EnclaveAddress;
use adyton_parent::cli::config::{ClientConfig, KmsSettings, RequesterConfig};
use adyton_shared::KeyArn;
use adyton_shared::id::{PolicyDigest, RequesterKey};
use adyton_shared::policy::{Policy, Source};
use adyton_verifier::key_policy::Measurement;
use anyhow::{Context as _, Result, bail};
use aws_lc_rs::digest::{SHA384, digest};
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use rustls_pki_types::PrivatePkcs8KeyDer;
use rustls_pki_types::pem::PemObject as _;
use serde::{Deserialize, Serialize};
use tokio::process::Command;

use crate::auditor::auditor;
use crate::cli::open_kms;
use crate::kms::{IdentityPolicyRecord, User};
use crate::kms_admin::KmsAdmin;
use crate::nsm::measure_policy;
use crate::policy::{REQUESTER, Start};
use crate::process::Part;
use crate::state::{Lock, StateDir, write_whole};

/// The account of the local KMS.
const ACCOUNT: &str = "111122223333";
/// Its region.
pub const REGION: &str = "eu-west-1";
/// What the enclave's credentials belong to.
pub(crate) const ENCLAVE: &str = "arn:aws:iam::111122223333:user/adyton-enclave";
/// Who encrypts data.
pub(crate) const OWNER: &str = "arn:aws:iam::111122223333:user/data-owner";
/// Another account's administrator, to whose keys results can be sealed.
const PARTNER: &str = "arn:aws:iam::444455556666:user/partner";

/// What a user or a program needs to know to use what runs.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Info {
    /// The local KMS.
    pub kms_endpoint: String,
    /// Its port on loopback.
    pub kms_port: u16,
    /// The certificate that its clients trust.
    pub kms_ca: PathBuf,
    /// AWS access keys: profiles `default` (administrator), `owner` and `enclave`, and `partner`, the
    /// administrator of another account.
    pub credentials_file: PathBuf,
    /// The local KMS's region.
    pub region: String,
    /// Its account.
    pub account: String,
    /// The address of the enclave, for `adyton --enclave`.
    pub enclave: String,
    /// The root of attestation documents, in PEM.
    pub root: PathBuf,
    /// The enclave's measurements.
    pub pcrs: BTreeMap<u8, String>,
    /// The key that releases data keys to this enclave.
    pub key_arn: String,
    /// A key of another account, to which results can be sealed.
    pub partner_key_arn: String,
    /// The identity file of an auditor to whom results can be sealed, for `age -d -i`.
    pub auditor: PathBuf,
    /// The measured policy.
    pub policy: PathBuf,
    /// Settings for the `adyton` command.
    pub client_config: PathBuf,
    /// Process ids by part.
    pub pids: BTreeMap<String, u32>,
    /// Whether the key's policy had to be changed because the measurements are new.
    pub key_policy_changed: bool,
}

/// What runs.
#[derive(Debug)]
pub struct World {
    /// Where its state is.
    pub state: StateDir,
    /// What to know of it.
    pub info: Info,
    parts: Vec<Part>,
    _lock: Lock,
}

/// How to start.
#[derive(Debug, Clone, Default)]
pub struct WorldOptions {
    /// The KMS's port; 0 takes the last one, or any.
    pub kms_port: u16,
    /// Whether the KMS's faults endpoint is on.
    pub faults: bool,
}

impl World {
    /// Starts everything; `step` is told what has been done.
    ///
    /// # Errors
    /// Whatever cannot be started; what was started is stopped again.
    pub async fn up(folder: &Path, options: WorldOptions, mut step: impl FnMut(&str)) -> Result<Self> {
        let state = StateDir::open(folder)?;
        let Some(lock) = state.lock()? else {
            bail!("`adyton-sim up` runs in {} already; see `adyton-sim status`", folder.display());
        };
        let users = prepare_users(&state)?;
        let (kms, kms_port) = start_kms(&state, &options).await?;
        step(&format!("local KMS on https://localhost:{kms_port} (TLS, SigV4, persistent)"));
        let admin = KmsAdmin::connect(&state, kms_port, &users.administrator)?;
        let key = admin.key(&state.key_arn(), "Adyton simulator").await?;
        let partner = KmsAdmin::connect(&state, kms_port, &users.partner)?;
        let partner_key = partner.key(&state.partner_key_arn(), "Results for the partner").await?;
        let requester = requester_key(&state).await?;
        step(&format!(
            "requester key for '{REQUESTER}' (Ed25519), an auditor's age key, a partner's KMS key"
        ));
        let (policy, read) = policy(&state, &key, &partner_key, requester)?;
        let pcrs = measurements(&policy)?;
        let key_policy_changed = admin.demand(&key, &pcrs, &read.named_contexts(&key)).await?;
        partner.offer(&partner_key, &pcrs).await?;
        step("KMS key whose policy demands exactly this enclave's PCR0, 1, 2 and 16");
        write_whole(&state.client_config(), client_config(&state, kms_port, &key, &pcrs)?.as_bytes())?;
        for name in named_keys(&state, &read).await? {
            step(&format!("named key '{name}', wrapped (adyton key new)"));
        }
        let enclave = start_enclave(&state, &state.policy(), &state.socket(), "enclave").await?;
        step("enclave, measured and booted in a process of its own");
        let parent = start_parent(&state, &state.socket(), kms_port, "parent").await?;
        step("parent: egress proxy, credentials and named keys");
        let parts = vec![enclave, parent, kms];
        let names = ["enclave", "parent", "kms"];
        let pids =
            names.iter().zip(&parts).filter_map(|(n, part)| Some(((*n).to_owned(), part.pid()?))).collect();
        let info = Info {
            kms_endpoint: format!("https://localhost:{kms_port}"),
            kms_port,
            kms_ca: state.kms_ca(),
            credentials_file: state.credentials(),
            region: REGION.to_owned(),
            account: ACCOUNT.to_owned(),
            enclave: format!("unix:{}", state.socket().display()),
            root: state.nsm_root(),
            pcrs: pcrs.iter().map(|(index, pcr)| (*index, pcr.to_string())).collect(),
            key_arn: key.to_string(),
            partner_key_arn: partner_key.to_string(),
            auditor: state.auditor(),
            policy: state.policy(),
            client_config: state.client_config(),
            pids,
            key_policy_changed,
        };
        write_whole(&state.up(), &serde_json::to_vec_pretty(&info)?)?;
        Ok(Self { state, info, parts, _lock: lock })
    }

    /// Waits until a part ends by itself.
    ///
    /// # Errors
    /// Always: which part, and what its log says.
    pub async fn watch(&mut self) -> Result<()> {
        let [a, b, c] = &mut self.parts[..] else { bail!("parts are missing") };
        tokio::select! {
            ended = a.watch() => ended,
            ended = b.watch() => ended,
            ended = c.watch() => ended,
        }
    }

    /// Stops everything, the KMS last.
    pub async fn down(self) {
        for part in self.parts {
            part.stop().await;
        }
        let _ = fs_err::remove_file(self.state.up());
    }
}

/// PCR0, 1, 2 and 16 of the enclave that this executable and this policy make.
///
/// # Errors
/// If this executable cannot be read.
pub fn measurements(policy: &[u8]) -> Result<BTreeMap<u8, Measurement>> {
    let executable = std::env::current_exe().context("this executable cannot be found")?;
    let mut pcrs = BTreeMap::new();
    for (index, value) in measure_policy(&executable, policy)? {
        pcrs.insert(u8::try_from(index)?, Measurement::new(value)?);
    }
    let extended = digest(&SHA384, &[&[0; 48][..], PolicyDigest::of(policy).as_bytes()].concat());
    pcrs.insert(16, Measurement::new(extended.as_ref().try_into()?)?);
    Ok(pcrs)
}

/// Who has keys at the local KMS.
struct Users {
    administrator: User,
    partner: User,
}

/// Makes the users that the state has not, and writes their access keys down.
fn prepare_users(state: &StateDir) -> Result<Users> {
    let server = open_kms(state, false)?;
    let administrator = server.first_administrator()?;
    let mut users = server.users()?;
    for (arn, administrator) in [(ENCLAVE, false), (OWNER, false), (PARTNER, true)] {
        if !users.iter().any(|user| user.principal_arn == arn) {
            let user = User::generate(arn, administrator)?;
            server.add_user(&user)?;
            users.push(user);
        }
    }
    server.put_identity_policy(&partners_keys())?;
    let mut file = String::new();
    let named = |arn: &str| users.iter().find(|user| user.principal_arn == arn);
    for (profile, user) in [
        ("default", Some(&administrator)),
        ("owner", named(OWNER)),
        ("enclave", named(ENCLAVE)),
        ("partner", named(PARTNER)),
    ] {
        let user = user.context("a user of the local KMS is gone")?;
        let (id, secret) = (&user.access_key_id, user.secret_access_key.as_str());
        writeln!(file, "[{profile}]\naws_access_key_id = {id}\naws_secret_access_key = {secret}\n")?;
    }
    write_whole(&state.credentials(), file.as_bytes())?;
    let partner = users.into_iter().find(|user| user.principal_arn == PARTNER);
    Ok(Users { administrator, partner: partner.context("the partner is gone")? })
}

/// Lets the enclave ask for data keys in the partner's account, as far as key policies there do: a
/// key of another account needs both sides.
fn partners_keys() -> IdentityPolicyRecord {
    let account = PARTNER.split(':').nth(4).unwrap_or_default();
    let document = serde_json::json!({
        "Version": "2012-10-17",
        "Statement": [{
            "Sid": "SealToPartners",
            "Effect": "Allow",
            "Action": "kms:GenerateDataKey",
            "Resource": format!("arn:aws:kms:{REGION}:{account}:key/*"),
        }],
    });
    IdentityPolicyRecord {
        principal: ENCLAVE.to_owned(),
        name: "PartnersKeys".to_owned(),
        document: document.to_string(),
    }
}

async fn start_kms(state: &StateDir, options: &WorldOptions) -> Result<(Part, u16)> {
    let wanted = match options.kms_port {
        0 => read_port(state).unwrap_or(0),
        port => port,
    };
    let start = |port: u16| {
        let mut arguments = part_arguments(state, "kms");
        arguments.extend(["--port".into(), port.to_string().into()]);
        if options.faults {
            arguments.push("--faults".into());
        }
        async move { Part::start("local KMS", &arguments, &[], state.log("kms")).await }
    };
    let part = match start(wanted).await {
        Ok(part) => part,
        // Somebody else has the port of last time by now.
        Err(_) if options.kms_port == 0 && wanted != 0 => start(0).await?,
        Err(error) => return Err(error),
    };
    let bound = part.ready()["port"].as_u64().and_then(|number| u16::try_from(number).ok());
    let bound = bound.context("the local KMS did not say its port")?;
    write_whole(&state.path().join("kms-port"), bound.to_string().as_bytes())?;
    Ok((part, bound))
}

fn read_port(state: &StateDir) -> Option<u16> {
    fs_err::read_to_string(state.path().join("kms-port")).ok()?.trim().parse().ok()
}

fn part_arguments(state: &StateDir, command: &str) -> Vec<OsString> {
    vec!["--state".into(), state.path().into(), command.into(), "--part".into()]
}

/// Starts an enclave with this policy file on this socket.
///
/// # Errors
/// What the enclave says.
pub async fn start_enclave(state: &StateDir, policy: &Path, socket: &Path, log: &str) -> Result<Part> {
    let mut arguments = part_arguments(state, "enclave");
    arguments.extend(["--policy".into(), policy.into(), "--socket".into(), socket.into()]);
    Part::start("enclave", &arguments, &[], state.log(log)).await
}

/// Starts the parent's daemon for the enclave on this socket.
///
/// # Errors
/// What the daemon says.
pub async fn start_parent(state: &StateDir, socket: &Path, kms_port: u16, log: &str) -> Result<Part> {
    let allow_list = state.path().join("allow-list.yaml");
    write_whole(&allow_list, format!("allowlist:\n- {{address: localhost, port: {kms_port}}}\n").as_bytes())?;
    let mut enclave = OsString::from("unix:");
    enclave.push(socket);
    let arguments = [
        "parent".into(),
        "serve".into(),
        "--part".into(),
        "--json".into(),
        "--enclave".into(),
        enclave,
        "--proxy".into(),
        format!("8000=localhost:{kms_port}").into(),
        "--allow-list".into(),
        allow_list.into_os_string(),
        "--keys".into(),
        state.named_keys().into(),
    ];
    fs_err::create_dir_all(state.named_keys())?;
    Part::start("parent", &arguments, &aws_environment(state, "enclave"), state.log(log)).await
}

/// The environment in which AWS clients use the local KMS with this profile's access key, and nothing
/// that the user's own environment has.
pub fn aws_environment(state: &StateDir, profile: &str) -> Vec<(&'static str, OsString)> {
    vec![
        ("AWS_SHARED_CREDENTIALS_FILE", state.credentials().into()),
        ("AWS_CONFIG_FILE", "/dev/null".into()),
        ("AWS_PROFILE", profile.into()),
        ("AWS_REGION", REGION.into()),
        ("AWS_EC2_METADATA_DISABLED", "true".into()),
    ]
}

async fn requester_key(state: &StateDir) -> Result<RequesterKey> {
    let path = state.requester_key();
    if !path.try_exists()? {
        adyton(
            state,
            &[
                "requester".into(),
                "new".into(),
                "--name".into(),
                REQUESTER.into(),
                "-o".into(),
                path.clone().into(),
            ],
        )
        .await?;
    }
    let secret = PrivatePkcs8KeyDer::from_pem_file(&path)
        .map_err(|_| anyhow::anyhow!("{} is not a PKCS#8 key in PEM", path.display()))?;
    let key = Ed25519KeyPair::from_pkcs8_maybe_unchecked(secret.secret_pkcs8_der())
        .map_err(|_| anyhow::anyhow!("{} is not an Ed25519 key", path.display()))?;
    Ok(RequesterKey::new(key.public_key().as_ref().try_into()?))
}

/// Runs the `adyton` command with `--json` and returns what it printed.
///
/// # Errors
/// What it printed to standard error.
pub async fn adyton(state: &StateDir, arguments: &[OsString]) -> Result<serde_json::Value> {
    let output = adyton_output(state, arguments).await?;
    if !output.status.success() {
        bail!("{}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(serde_json::from_slice(&output.stdout).unwrap_or(serde_json::Value::Null))
}

/// Runs the `adyton` command with `--json`, as the data owner's shell would.
///
/// # Errors
/// If it cannot be started.
pub async fn adyton_output(state: &StateDir, arguments: &[OsString]) -> Result<std::process::Output> {
    let executable = std::env::current_exe().context("this executable cannot be found")?;
    Command::new(executable)
        .arg("parent")
        .args(arguments)
        .arg("--json")
        .envs(aws_environment(state, "owner"))
        .stdin(Stdio::null())
        .output()
        .await
        .context("the adyton command could not be started")
}

/// Makes the named keys of the policy that the state has not; their names.
async fn named_keys(state: &StateDir, policy: &Policy) -> Result<Vec<String>> {
    let mut made = Vec::new();
    fs_err::create_dir_all(state.named_keys())?;
    for (name, key) in &policy.keys {
        let Source::File(file) = &key.source;
        let path = state.named_keys().join(file);
        if path.try_exists()? {
            continue;
        }
        let arguments = ["key", "new", name.as_str(), "--policy"].map(OsString::from);
        let mut arguments = Vec::from(arguments);
        arguments.extend([state.policy().into(), "-o".into(), path.into()]);
        arguments.extend(["--config".into(), state.client_config().into()]);
        adyton(state, &arguments).await?;
        made.push(name.to_string());
    }
    Ok(made)
}

/// The policy in the state folder, written first if there is none.
fn policy(
    state: &StateDir,
    key: &KeyArn,
    partner: &KeyArn,
    requester: RequesterKey,
) -> Result<(Vec<u8>, Policy)> {
    let path = state.policy();
    if !path.try_exists()? {
        let ca = fs_err::read_to_string(state.kms_ca())?;
        let start = Start {
            region: REGION,
            key,
            ca_pem: &ca,
            requester: &REQUESTER.parse()?,
            requester_key: &requester,
            auditor: &auditor(&state.auditor())?,
            partner,
        };
        let text = start.policy();
        write_whole(&path, text.as_bytes())?;
    }
    let policy = fs_err::read(&path)?;
    let read = Policy::parse(&policy).with_context(|| path.display().to_string())?;
    Ok((policy, read))
}

/// Settings with which `adyton` talks to what runs here.
fn client_config(
    state: &StateDir,
    kms_port: u16,
    key: &KeyArn,
    pcrs: &BTreeMap<u8, Measurement>,
) -> Result<String> {
    let config = ClientConfig {
        enclave: Some(EnclaveAddress::Unix(state.socket())),
        root: Some(state.nsm_root().display().to_string()),
        pcrs: pcrs.iter().map(|(index, pcr)| (index.to_string(), pcr.to_string())).collect(),
        // The policy's register is among the measurements.
        policy: None,
        requester: Some(RequesterConfig { name: REQUESTER.parse()?, key: state.requester_key() }),
        kms: KmsSettings {
            key: Some(key.clone()),
            endpoint_url: Some(format!("https://localhost:{kms_port}")),
            ca_bundle: Some(state.kms_ca()),
            region: Some(REGION.to_owned()),
            credentials: Some(state.credentials()),
            profile: Some("owner".to_owned()),
        },
    };
    Ok(toml::to_string_pretty(&config)?)
}
