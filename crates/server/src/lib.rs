//! The API server: verbs, negotiation, admission, authentication, discovery.
