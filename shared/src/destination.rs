//! Where a result goes: to the parent, or sealed to somebody else.
//!
//! Written the same way in job files, in the policy, in signed requests and in receipts: `parent`, an
//! age recipient, or the full ARN of a KMS key. Two destinations are equal exactly if their texts are.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::KeyArn;
use crate::age::{AgeRecipient, RecipientError};
use crate::arn::ArnError;

/// Where the result goes.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Destination {
    /// To the parent, readable.
    Parent,
    /// To whoever holds the identity of this age recipient.
    Age(AgeRecipient),
    /// To whoever may use this KMS key: an AWS Encryption SDK message.
    Kms(KeyArn),
}

/// Why a text is not a destination.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DestinationError {
    /// Neither of the three kinds.
    #[error("not a destination: write parent, an age recipient (age1…) or a full KMS key ARN (arn:…)")]
    Unknown,
    /// Meant as an age recipient.
    #[error(transparent)]
    Age(#[from] RecipientError),
    /// Meant as a KMS key.
    #[error(transparent)]
    Kms(#[from] ArnError),
}

impl Destination {
    /// Whether the parent cannot read what goes there.
    pub fn is_sealed(&self) -> bool {
        match self {
            Self::Parent => false,
            Self::Age(_) | Self::Kms(_) => true,
        }
    }
}

impl FromStr for Destination {
    type Err = DestinationError;

    fn from_str(text: &str) -> Result<Self, DestinationError> {
        // An identity is meant as age too; its own error says that it is a secret.
        let age = |text: &str| text.get(..3).is_some_and(|start| start.eq_ignore_ascii_case("age"));
        match text {
            "parent" => Ok(Self::Parent),
            arn if arn.starts_with("arn:") || arn.starts_with("alias/") => Ok(Self::Kms(KeyArn::parse(arn)?)),
            recipient if age(recipient) => Ok(Self::Age(AgeRecipient::parse(recipient)?)),
            _ => Err(DestinationError::Unknown),
        }
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Parent => f.write_str("parent"),
            Self::Age(recipient) => recipient.fmt(f),
            Self::Kms(key) => key.fmt(f),
        }
    }
}

impl TryFrom<String> for Destination {
    type Error = DestinationError;
    fn try_from(text: String) -> Result<Self, DestinationError> {
        text.parse()
    }
}

impl From<Destination> for String {
    fn from(to: Destination) -> Self {
        to.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cbor;

    const AGE: &str = "age1t7rxyev2z3rw82stdlrrepyc39nvn86l5078zqkf5uasdy86jp6svpy7pa";
    const ARN: &str = "arn:aws:kms:eu-west-1:444455556666:key/1";

    #[test]
    fn is_one_text_everywhere() {
        for text in ["parent", AGE, ARN] {
            let to: Destination = text.parse().unwrap();
            assert_eq!(to.to_string(), text);
            assert_eq!(to.is_sealed(), text != "parent");
            let bytes = cbor::encode(&to).unwrap();
            assert_eq!(bytes, cbor::encode(&text).unwrap());
            assert_eq!(cbor::decode::<Destination>(&bytes), Ok(to));
        }
    }

    #[test]
    fn refuses_anything_else_and_says_what_was_meant() {
        for text in ["", "Parent", "parent ", "s3://bucket", "aage1", "a", "ä", "ageä"] {
            let error = text.parse::<Destination>().unwrap_err();
            assert!(
                matches!(error, DestinationError::Unknown | DestinationError::Age(RecipientError::Kind)),
                "{text}"
            );
        }
        assert_eq!("alias/x".parse::<Destination>(), Err(DestinationError::Kms(ArnError::Alias)));
        let upper = AGE.to_uppercase().parse::<Destination>();
        assert_eq!(upper, Err(DestinationError::Age(RecipientError::Case)));
    }
}
