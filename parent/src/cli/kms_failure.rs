//! What went wrong between this program and KMS, in a sentence.
//!
//! The SDK's own account of an error holds the answer as it came, which may hold a plaintext data key.
//! Only what is chosen here is shown.

use std::error::Error;

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_kms::error::{ProvideErrorMetadata, SdkError};

use super::failure::failed_with;
use crate::exit::{Exit, Failure};

const CREDENTIALS_HINT: &str = "set AWS_PROFILE or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or name a file in \
     the settings' [kms] credentials";
const REACH_HINT: &str = "check the network, --endpoint-url and --ca-bundle, and try again";

/// The failure of an operation on a key.
pub(super) fn kms_failure<E: ProvideErrorMetadata, R>(error: &SdkError<E, R>) -> Failure {
    match error {
        SdkError::ServiceError(context) => refused(context.err()),
        SdkError::TimeoutError(_) => failed_with(Exit::Aws, "KMS did not answer in time", REACH_HINT),
        SdkError::ResponseError(_) => failed_with(
            Exit::Aws,
            "KMS's answer cannot be read",
            "is the endpoint KMS, and does nothing in between change its answers?",
        ),
        SdkError::DispatchFailure(failure) => match failure.as_connector_error() {
            Some(error) if holds_credentials_error(error) => {
                failed_with(Exit::Aws, "there are no AWS credentials", CREDENTIALS_HINT)
            }
            Some(error) if failure.is_io() || failure.is_timeout() => {
                failed_with(Exit::Aws, format!("KMS could not be reached: {}", innermost(error)), REACH_HINT)
            }
            _ => failed_with(Exit::Aws, "KMS could not be asked", REACH_HINT),
        },
        _ => failed_with(Exit::Aws, "the question to KMS could not be made", REACH_HINT),
    }
}

/// KMS answered and said no.
fn refused(error: &impl ProvideErrorMetadata) -> Failure {
    let code = error.code().unwrap_or("an unknown error");
    let hint = match code {
        "AccessDeniedException" => "do the key's policy and these credentials allow kms:GenerateDataKey?",
        "NotFoundException" => "is the ARN right, and is it a key of this region and this KMS?",
        "DisabledException" | "KMSInvalidStateException" => {
            "`aws kms describe-key` shows the key's state; enable it"
        }
        "ThrottlingException" => "the account's request quota is used up; try again in a minute",
        "UnrecognizedClientException"
        | "InvalidClientTokenId"
        | "ExpiredTokenException"
        | "InvalidSignatureException"
        | "IncompleteSignature" => "renew the credentials, and check this machine's clock",
        _ => "the AWS KMS API reference explains the error",
    };
    let message = match error.message() {
        Some(message) => format!("KMS refused: {code}: {message}"),
        None => format!("KMS refused: {code}"),
    };
    failed_with(Exit::Refused, message, hint).code(code)
}

fn holds_credentials_error(error: &(dyn Error + 'static)) -> bool {
    error.is::<CredentialsError>() || error.source().is_some_and(holds_credentials_error)
}

/// The first cause says it best, and nothing of the question or the answer.
fn innermost(error: &(dyn Error + 'static)) -> String {
    error.source().map_or_else(|| error.to_string(), innermost)
}
