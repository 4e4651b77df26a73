//! Counts how many aggregates each requester has asked for about each object.
//!
//! One aggregate over a large group tells nothing about one record; two that differ in one record
//! do, and nobody can tell which two. What can be bounded is how many are asked. The count lives in
//! memory and starts anew with the enclave: it slows down whoever asks too much, and makes it
//! visible; it does not stop a parent that restarts the enclave, or requesters that work together.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use adyton_shared::id::{RequesterName, Sha256Digest};

/// Most pairs of requester and object: 65,536 × about 64 bytes = 4 MiB.
const MAX_COUNTED: usize = 65_536;

/// Why no aggregate is allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BudgetRefusal {
    /// The budget is spent.
    Spent,
    /// No more pairs can be counted; forgetting one would give it a new budget.
    Full,
}

/// What has been spent.
#[derive(Debug, Default)]
pub(super) struct Budgets {
    spent: Mutex<HashMap<Sha256Digest, u32>>,
}

impl Budgets {
    /// Spends one aggregate of this object by this requester.
    pub(super) fn spend(
        &self,
        requester: &RequesterName,
        object: &str,
        budget: u32,
    ) -> Result<(), BudgetRefusal> {
        // A name has no zero byte, so the pair has one reading; hashed, it costs the same whatever is claimed.
        let pair = Sha256Digest::of(&[requester.as_str().as_bytes(), &[0], object.as_bytes()].concat());
        let mut spent = self.spent.lock().unwrap_or_else(PoisonError::into_inner);
        let full = spent.len() >= MAX_COUNTED;
        match spent.get_mut(&pair) {
            Some(count) if *count >= budget => Err(BudgetRefusal::Spent),
            Some(count) => {
                *count = count.saturating_add(1);
                Ok(())
            }
            None if full => Err(BudgetRefusal::Full),
            None if budget == 0 => Err(BudgetRefusal::Spent),
            None => {
                spent.insert(pair, 1);
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_requester_has_one_budget_for_each_object() {
        let budgets = Budgets::default();
        let (a, b) = ("a".parse().unwrap(), "b".parse().unwrap());
        assert_eq!(budgets.spend(&a, "x", 2), Ok(()));
        assert_eq!(budgets.spend(&a, "x", 2), Ok(()));
        assert_eq!(budgets.spend(&a, "x", 2), Err(BudgetRefusal::Spent));
        assert_eq!(budgets.spend(&a, "y", 2), Ok(()));
        assert_eq!(budgets.spend(&b, "x", 2), Ok(()));
        // Another rule with a larger budget counts what was spent under the smaller.
        assert_eq!(budgets.spend(&a, "x", 3), Ok(()));
        assert_eq!(budgets.spend(&a, "x", 3), Err(BudgetRefusal::Spent));
    }

    #[test]
    fn a_full_memory_refuses_and_forgets_nothing() {
        let budgets = Budgets::default();
        let a = "a".parse().unwrap();
        for n in 0..65_536 {
            assert_eq!(budgets.spend(&a, &n.to_string(), 2), Ok(()));
        }
        assert_eq!(budgets.spend(&a, "new", 2), Err(BudgetRefusal::Full));
        assert_eq!(budgets.spend(&a, "7", 2), Ok(()));
        assert_eq!(budgets.spend(&a, "7", 2), Err(BudgetRefusal::Spent));
    }
}
