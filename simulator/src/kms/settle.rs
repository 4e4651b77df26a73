//! What time does to keys: rotations fall due, imported material expires, waiting periods end.
//!
//! Nothing runs in the background. Before a key is looked at, everything that was due by then is
//! done, in the order of its dates and in one transaction: whoever asks sees what a service that
//! never sleeps would have done, and two askers see the same. What is due next is kept in the
//! database beside the keys, so that a look that finds nothing costs nothing.

use super::error::ApiError;
use super::key::{KeyRecord, KeyState, Millis, Schedule};
use super::material::{self, MaterialRecord, Rotation};
use super::store::Change;
use super::{KmsError, Service};

pub(super) const DAY_MS: Millis = 24 * 60 * 60 * 1000;

/// What happens to a key by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Event {
    Expiry,
    Rotation,
    Deletion,
}

impl Service {
    /// Does what was due by now.
    pub(super) fn settle(&self, now: Millis) -> Result<(), KmsError> {
        if !self.store.is_due(now) {
            return Ok(());
        }
        let mut left_objects = false;
        self.store.edit(|change| {
            // Each event moves its key's next one into the future of the event, or ends the key.
            while let Some(arn) = change.first_due(now)? {
                let key = change.key(&arn)?.ok_or(KmsError::Record)?;
                match key.next_event() {
                    Some((at, Event::Expiry)) => expire(change, key, at)?,
                    Some((at, Event::Rotation)) => rotate(change, &key, at)?,
                    Some((at, Event::Deletion)) => {
                        left_objects |= key.custom_key_store.is_some();
                        delete(change, &key, at)?;
                    }
                    None => return Err(KmsError::Record),
                }
            }
            Ok(())
        })?;
        if left_objects && let Err(error) = self.remove_all_loose() {
            // Tried again when the store is connected.
            tracing::warn!(code = error.code, "what deleted keys left in custom key stores was not removed");
        }
        Ok(())
    }
}

impl KeyRecord {
    /// When something happens to it by itself, if ever.
    pub(super) fn due(&self) -> Option<Millis> {
        self.next_event().map(|(at, _)| at)
    }

    fn next_event(&self) -> Option<(Millis, Event)> {
        let expiry = self.materials.iter().chain(&self.pending).filter_map(MaterialRecord::expires).min();
        // A key that nobody can use does not rotate, and one in several regions rotates as one.
        let rotation = self
            .schedule
            .filter(|_| self.state == KeyState::Enabled && !self.is_replica())
            .map(|schedule| schedule.next);
        let deletion = match self.state {
            KeyState::PendingDeletion { at } => Some(at),
            _ => None,
        };
        [(expiry, Event::Expiry), (rotation, Event::Rotation), (deletion, Event::Deletion)]
            .into_iter()
            .filter_map(|(at, event)| at.map(|at| (at, event)))
            .min_by_key(|(at, _)| *at)
    }

    /// The state that a key has when nothing else says so: with all its materials, the wished one.
    pub(super) fn settle_state(&mut self, wished: KeyState) {
        self.state = if self.lacks_material() { KeyState::PendingImport } else { wished };
    }
}

impl Schedule {
    pub(super) fn starting(now: Millis, days: u32) -> Self {
        Self { days, next: now.saturating_add(DAY_MS.saturating_mul(days.into())) }
    }
}

/// Imported material whose time is over is gone; the key waits for it to come back.
fn expire(change: &Change<'_>, mut key: KeyRecord, at: Millis) -> Result<(), KmsError> {
    let is_over = |material: &MaterialRecord| material.expires().is_some_and(|end| end <= at);
    for material in key.materials.iter_mut().filter(|material| is_over(material)) {
        material.forget();
    }
    if matches!(key.state, KeyState::Enabled | KeyState::Disabled) {
        let state = key.state;
        key.settle_state(state);
    }
    change.put(&key)?;
    if key.pending.as_ref().is_some_and(is_over) { drop_pending(change, &key) } else { Ok(()) }
}

/// Material that waits for a rotation leaves no trace: no ciphertext was made with it. In a replica
/// it can be imported again as long as the primary key has it.
pub(super) fn drop_pending(change: &Change<'_>, key: &KeyRecord) -> Result<(), KmsError> {
    if key.is_replica() {
        let mut key = key.clone();
        key.pending.iter_mut().for_each(MaterialRecord::forget);
        return change.put(&key);
    }
    for mut member in change.family(key)? {
        member.pending = None;
        change.put(&member)?;
    }
    Ok(())
}

/// An automatic rotation: the same new material in all regions.
fn rotate(change: &Change<'_>, key: &KeyRecord, at: Millis) -> Result<(), KmsError> {
    rotate_with(change, key, Rotation { at, automatic: true })
}

/// Makes new material current in all regions of a key.
pub(super) fn rotate_with(change: &Change<'_>, key: &KeyRecord, rotation: Rotation) -> Result<(), KmsError> {
    let failed = |_: ApiError| KmsError::Crypto;
    let fresh = material::generate(key.spec).map_err(failed)?;
    let id = material::fresh_id().map_err(failed)?;
    for mut member in change.family(key)? {
        let sealed = change.store.seal_secret(&member.arn, &id, &fresh.secret).ok_or(KmsError::Crypto)?;
        let mut material = MaterialRecord::new(id, rotation.at, sealed, fresh.public.clone());
        material.rotation = Some(rotation);
        member.materials.push(material);
        if let Some(schedule) = member.schedule.as_mut().filter(|_| rotation.automatic) {
            *schedule = Schedule::starting(rotation.at, schedule.days);
        }
        change.put(&member)?;
    }
    Ok(())
}

/// The waiting period is over. A replica leaves its family; the last one lets a waiting primary go on.
fn delete(change: &Change<'_>, key: &KeyRecord, at: Millis) -> Result<(), KmsError> {
    let family = change.family(key)?;
    change.remove(key)?;
    for mut member in family.into_iter().filter(|member| member.arn != key.arn) {
        if let Some(regions) = &mut member.regions {
            regions.replicas.retain(|region| *region != key.region);
            if let (KeyState::PendingReplicaDeletion { days }, true) =
                (member.state, regions.replicas.is_empty())
            {
                member.state =
                    KeyState::PendingDeletion { at: at.saturating_add(DAY_MS.saturating_mul(days.into())) };
            }
        }
        change.put(&member)?;
    }
    Ok(())
}
