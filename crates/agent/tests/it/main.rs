//! What an agent does when it is told to, tried on real roots.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod a_compromised_server_gets_nowhere;
mod archives_of_the_host_vouch;
mod disk;
mod documents_of_a_real_host;
mod half_way_is_no_dead_end;
mod killed_at_any_point;
mod killed_in_the_middle_of_real_updates;
mod order_keys_are_handed_over;
mod orders_are_carried_out;
mod orders_come_and_are_answered;
mod plane;
mod rpm_interrupted;
mod rpm_orders_are_carried_out;
mod rpm_repositories_vouch;
mod rpm_world;
mod sockets;
mod support;
mod vendor;
mod what_is_asked_again;
