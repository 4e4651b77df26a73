//! ECDH (SP 800-56A rev. 3 §5.7.1.2): the shared secret is the bare x-coordinate, as AWS KMS gives it.

use aws_lc_rs::agreement::{
    self, Algorithm, ECDH_P256, ECDH_P384, ECDH_P521, ParsedPublicKey, ParsedPublicKeyFormat, PrivateKey,
    UnparsedPublicKey,
};
use zeroize::Zeroizing;

use crate::kms::material::Secret;
use crate::kms::spec::KeySpec;

/// What came of an agreement.
pub(in crate::kms) enum Agreement {
    Shared(Secret),
    /// The peer's key is not a `SubjectPublicKeyInfo` on the same curve.
    BadPeer,
}

fn curve(spec: KeySpec) -> Option<&'static Algorithm> {
    match spec {
        KeySpec::EccNistP256 => Some(&ECDH_P256),
        KeySpec::EccNistP384 => Some(&ECDH_P384),
        KeySpec::EccNistP521 => Some(&ECDH_P521),
        _ => None,
    }
}

/// Agrees on a secret with whoever has the private key to `peer`; `None` if our own key cannot be read.
pub(in crate::kms) fn agree(spec: KeySpec, pkcs8: &[u8], peer: &[u8]) -> Option<Agreement> {
    let curve = curve(spec)?;
    let own = PrivateKey::from_private_key_der(curve, pkcs8).ok()?;
    // The library would take bare points too.
    let peer = ParsedPublicKey::try_from(UnparsedPublicKey::new(curve, peer))
        .ok()
        .filter(|peer| peer.format() == ParsedPublicKeyFormat::X509);
    let Some(peer) = peer else { return Some(Agreement::BadPeer) };
    let shared = agreement::agree(&own, peer, (), |secret| Ok(Zeroizing::new(secret.to_vec())));
    Some(shared.map_or(Agreement::BadPeer, Agreement::Shared))
}
