//! What went wrong with a request.

/// What went wrong, as the API said it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A Status from the server: its code, reason and message.
    #[error("{doing}: {message}")]
    Api {
        /// `create pods default/web-0`.
        doing: String,
        /// 404, 409, …
        code: u16,
        /// `NotFound`, `AlreadyExists`, `Conflict`, …
        reason: String,
        /// The server's words.
        message: String,
    },
    /// No answer.
    #[error("{doing}: {source}")]
    Transport {
        /// What was being done.
        doing: String,
        /// Why not.
        source: kube::Error,
    },
    /// An answer that is not what was asked for.
    #[error("{doing}: the answer cannot be read: {source}")]
    Decode {
        /// What was being done.
        doing: String,
        /// Why not.
        source: serde_json::Error,
    },
}

impl Error {
    /// 404.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Api { code: 404, .. })
    }
    /// 409 because it is there already.
    pub fn is_already_exists(&self) -> bool {
        matches!(self, Self::Api { code: 409, reason, .. } if reason == "AlreadyExists")
    }
    /// 409 because it has changed.
    pub fn is_conflict(&self) -> bool {
        matches!(self, Self::Api { code: 409, reason, .. } if reason == "Conflict")
    }
    /// 410: the revision asked for is no longer kept.
    pub fn is_expired(&self) -> bool {
        matches!(self, Self::Api { code: 410, .. })
    }
    /// The HTTP status, where the server answered.
    pub fn code(&self) -> Option<u16> {
        match self {
            Self::Api { code, .. } => Some(*code),
            _ => None,
        }
    }
    /// The server's own words, or ours where there are none; without what was being done. For events.
    pub fn message(&self) -> String {
        match self {
            Self::Api { message, .. } => message.clone(),
            Self::Transport { source, .. } => source.to_string(),
            Self::Decode { source, .. } => source.to_string(),
        }
    }
}
