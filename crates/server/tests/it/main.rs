//! What the control plane promises, asked through its API and pages.
//!
//! One program for all of them: each would link the whole product again, for gigabytes of disk.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod access_is_recorded;
mod baselines_have_pages;
mod break_glass_is_decided;
mod changes_have_pages;
mod clocks_are_told;
mod configuration_is_audited;
mod configuration_is_shown;
mod consent_is_signed_with_a_passkey;
mod contracts_have_pages;
mod devices_are_observed;
mod drifts_are_decided;
mod drifts_are_told;
mod every_route_is_guarded;
mod findings_have_a_history;
mod images_are_brought_and_published;
mod items_are_held_to_baselines;
mod notices_say_what_is_so;
mod pages_show_what_is_there;
mod people_prove_who_they_are;
mod people_sign_in_at_a_certified_provider;
mod people_sign_in_elsewhere;
#[path = "support/provider.rs"]
mod provider;
mod releases_become_baselines;
mod releases_go_out;
mod sources_are_observed;
#[path = "../../../sources/tests/it/support.rs"]
mod sources_support;
mod support;
mod tenants_are_told;
mod tenants_consent_by_the_api;
mod the_api_keeps_its_conventions;
mod the_lab_does_its_jobs;
mod the_openapi_document_is_checked_in;
mod timelines_tell_notices;
mod what_happened_is_published;
