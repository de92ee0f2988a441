//! How a command ended, in the words of the error channel.

use serde_json::{Value, json};

/// How it ended, for the error channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Exit code 0.
    Success,
    /// Reason `NonZeroExitCode`, cause `ExitCode`.
    ExitCode(i32),
    /// Reason `InternalError`, with words.
    Failure(String),
}

impl Outcome {
    /// The Status that client-go decodes (`k8s.io/client-go/tools/remotecommand/v4.go`).
    pub(crate) fn status(&self) -> Value {
        match self {
            Self::Success => json!({"metadata": {}, "status": "Success"}),
            Self::ExitCode(code) => json!({
                "metadata": {},
                "status": "Failure",
                "message": format!("command terminated with non-zero exit code: exit status {code}"),
                "reason": "NonZeroExitCode",
                "details": {"causes": [{"reason": "ExitCode", "message": code.to_string()}]},
            }),
            Self::Failure(words) => json!({
                "metadata": {},
                "status": "Failure",
                "message": words,
                "reason": "InternalError",
                "details": {"causes": [{"message": words}]},
                "code": 500,
            }),
        }
    }
}

impl Outcome {
    /// What protocols before v4 say instead of a Status; nothing of a success.
    pub(crate) fn words(&self) -> Option<String> {
        match self {
            Self::Success => None,
            Self::ExitCode(code) => Some(format!("command terminated with non-zero exit code: exit status {code}")),
            Self::Failure(words) => Some(words.clone()),
        }
    }
}

/// A Status that refuses the request before it is upgraded.
pub(crate) fn refusal(code: u16, reason: &str, message: &str) -> Value {
    json!({
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": message,
        "reason": reason,
        "code": code,
    })
}
