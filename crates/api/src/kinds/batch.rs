//! The rows of `batch/v1`.

mod cron_job;
mod job;

use crate::value::Access;
use crate::{Field, Kind};

pub(crate) const CRON_JOB: Kind = Kind {
    group: "batch",
    kind: "CronJob",
    plural: "cronjobs",
    singular: "cronjob",
    short: &["cj"],
    categories: &["all"],
    storage: "batch/cronjobs",
    status: true,
    generation: true,
    default: cron_job::default,
    prepare_create: cron_job::prepare_create,
    validate: cron_job::validate,
    warnings: cron_job::warnings,
    columns: cron_job::COLUMNS,
    orphans: true,
    ..Kind::BASE
};

pub(crate) const JOB: Kind = Kind {
    group: "batch",
    kind: "Job",
    plural: "jobs",
    singular: "job",
    categories: &["all"],
    storage: "batch/jobs",
    status: true,
    generation: true,
    fields: &[Field { name: "status.successful", value: |job| job.int("status.succeeded").unwrap_or(0).to_string() }],
    default: job::default,
    prepare_create: job::prepare_create,
    validate: job::validate::validate,
    validate_update: job::validate::validate_update,
    validate_status: job::status::validate,
    warnings: job::warnings,
    columns: job::COLUMNS,
    orphans: true,
    ..Kind::BASE
};
