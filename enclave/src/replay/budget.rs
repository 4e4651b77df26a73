//! Counts how many aggregates each requester has asked for about each object.
//!
//! One aggregate over a large group tells nothing about one record; two that differ in one record
//! do, and nobody can tell which two. What can be bounded is how many are asked. The count lives in
//! memory and starts anew with the enclave: it slows down whoever asks too much, and makes it
//! visible; it does not stop a parent that restarts the enclave, or requesters that work together.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use adyton_shared::id::{RequesterName, Sha256Digest};

/// Most pairs of requester and object, which are real ones: 65,536 × about 64 bytes = 4 MiB.
const MAX_COUNTED: usize = 65_536;

/// Why no aggregate is allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BudgetRefusal {
    /// The budget is spent.
    Spent,
    /// No more pairs can be counted; forgetting one would give it a new budget.
    Full,
}

/// What is counted for: a payload's own tenant and object, as its verified context says.
#[derive(Debug, Clone, Copy)]
pub struct Object<'a> {
    /// Whose.
    pub tenant: &'a str,
    /// Which.
    pub name: &'a str,
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
        object: Object<'_>,
        budget: u32,
    ) -> Result<(), BudgetRefusal> {
        let Object { tenant, name } = object;
        let whose = u64::try_from(tenant.len()).unwrap_or(u64::MAX).to_be_bytes();
        // A requester's name has no zero byte, so the three have one reading; hashed, they cost the same however long.
        let parts = [requester.as_str().as_bytes(), &[0], &whose, tenant.as_bytes(), name.as_bytes()];
        let pair = Sha256Digest::of(&parts.concat());
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

    fn object(name: &str) -> Object<'_> {
        Object { tenant: "t", name }
    }

    #[test]
    fn each_requester_has_one_budget_for_each_object() {
        let budgets = Budgets::default();
        let (a, b) = ("a".parse().unwrap(), "b".parse().unwrap());
        assert_eq!(budgets.spend(&a, object("x"), 2), Ok(()));
        assert_eq!(budgets.spend(&a, object("x"), 2), Ok(()));
        assert_eq!(budgets.spend(&a, object("x"), 2), Err(BudgetRefusal::Spent));
        assert_eq!(budgets.spend(&a, object("y"), 2), Ok(()));
        assert_eq!(budgets.spend(&b, object("x"), 2), Ok(()));
        // The same name of another tenant is another object.
        assert_eq!(budgets.spend(&a, Object { tenant: "tx", name: "" }, 2), Ok(()));
        // Another rule with a larger budget counts what was spent under the smaller.
        assert_eq!(budgets.spend(&a, object("x"), 3), Ok(()));
        assert_eq!(budgets.spend(&a, object("x"), 3), Err(BudgetRefusal::Spent));
    }

    #[test]
    fn a_full_memory_refuses_and_forgets_nothing() {
        let budgets = Budgets::default();
        let a = "a".parse().unwrap();
        for n in 0..65_536 {
            assert_eq!(budgets.spend(&a, object(&n.to_string()), 2), Ok(()));
        }
        assert_eq!(budgets.spend(&a, object("new"), 2), Err(BudgetRefusal::Full));
        assert_eq!(budgets.spend(&a, object("7"), 2), Ok(()));
        assert_eq!(budgets.spend(&a, object("7"), 2), Err(BudgetRefusal::Spent));
    }
}
