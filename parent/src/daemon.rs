//! The parent's daemon: proxies, credentials and wrapped keys for one or more enclaves.

use std::collections::BTreeMap;
use std::sync::Arc;

use adyton_shared::message::{CREDENTIALS_PORT, KEYS_PORT};
use serde::Serialize;
use tokio::task::JoinSet;

use crate::address::EnclaveAddress;
use crate::counters::{Counters, Counts};
use crate::credentials::CredentialService;
use crate::listen::{ListenError, Listener};
use crate::named_keys::NamedKeyService;
use crate::proxy::Proxy;

/// A daemon that listens. Dropping it ends its work some time later; [`Daemon::stop`] waits for it.
#[derive(Debug)]
pub struct Daemon {
    tasks: JoinSet<()>,
    proxies: BTreeMap<u32, Arc<Counters>>,
    credentials: Option<Arc<Counters>>,
    named_keys: Option<Arc<Counters>>,
}

/// What all services have done so far.
#[derive(Clone, Debug, Serialize)]
pub struct Stats {
    /// By the port that enclaves open.
    pub proxies: BTreeMap<u32, Counts>,
    /// Absent if credentials are not served.
    pub credentials: Option<Counts>,
    /// Absent if no folder of wrapped keys is served.
    pub named_keys: Option<Counts>,
}

impl Daemon {
    /// Listens for these enclaves; what is returned is ready. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// [`ListenError`] if any port is taken; nothing is then left behind.
    pub fn start(
        enclaves: &[EnclaveAddress],
        proxies: BTreeMap<u32, Proxy>,
        credentials: Option<CredentialService>,
        named_keys: Option<NamedKeyService>,
    ) -> Result<Self, ListenError> {
        // All or nothing: every port is bound before the first one is served.
        let mut bound = Vec::new();
        for (port, proxy) in proxies {
            bound.push((port, Arc::new(proxy), Listener::bind_all(enclaves, port)?));
        }
        let credentials = match credentials {
            Some(service) => Some((Arc::new(service), Listener::bind_all(enclaves, CREDENTIALS_PORT)?)),
            None => None,
        };
        let named_keys = match named_keys {
            Some(service) => Some((Arc::new(service), Listener::bind_all(enclaves, KEYS_PORT)?)),
            None => None,
        };
        let mut daemon =
            Self { tasks: JoinSet::new(), proxies: BTreeMap::new(), credentials: None, named_keys: None };
        for (port, proxy, listeners) in bound {
            daemon.proxies.insert(port, proxy.counters());
            for listener in listeners {
                daemon.tasks.spawn(Arc::clone(&proxy).serve(listener));
            }
        }
        if let Some((service, listeners)) = credentials {
            daemon.credentials = Some(service.counters());
            for listener in listeners {
                daemon.tasks.spawn(Arc::clone(&service).serve(listener));
            }
            // The first enclave to ask need not wait for the chain.
            daemon.tasks.spawn(async move { drop(service.answer().await) });
        }
        if let Some((service, listeners)) = named_keys {
            daemon.named_keys = Some(service.counters());
            for listener in listeners {
                daemon.tasks.spawn(Arc::clone(&service).serve(listener));
            }
        }
        Ok(daemon)
    }

    /// Ends every connection, and returns when the socket files are gone.
    pub async fn stop(mut self) {
        self.tasks.shutdown().await;
    }

    /// What it has done so far.
    pub fn stats(&self) -> Stats {
        Stats {
            proxies: self.proxies.iter().map(|(port, counters)| (*port, counters.read())).collect(),
            credentials: self.credentials.as_ref().map(|counters| counters.read()),
            named_keys: self.named_keys.as_ref().map(|counters| counters.read()),
        }
    }
}
