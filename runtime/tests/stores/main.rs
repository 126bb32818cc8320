//! The services over real stores: what they promise with Postgres, Redis and NATS as they are, not as a stand-in thinks
//! they are.
//!
//! One environment of own processes serves the whole binary; each test has its own database, Redis database, stream
//! and links. Where the servers cannot be had, every test is reported as not run, with the reason.

mod blog;
mod breakers;
mod cache;
mod catalogue;
mod differential;
mod differential_test;
mod failover;
mod flags;
mod functions;
mod guards;
mod health;
mod http;
mod http_audit;
mod import;
mod injection;
mod input;
mod json_writing;
mod lists;
mod memory;
mod migration_examples;
mod migrations;
mod notifications;
mod operations;
mod orders;
mod outbox;
mod outbox_stream;
mod pool;
mod pooler;
mod queue;
mod rate_limits;
mod reload;
mod replication;
mod rollouts;
mod secrecy;
mod spool;
mod subscriptions;
mod support;
mod traces;
mod webhooks;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use futures::future::LocalBoxFuture;
use harness::environment::Error;
use libtest_mimic::{Arguments, Failed, Trial};
use support::Stage;
use tokio::runtime::Runtime;

/// A test that waits for longer than this waits for ever.
const TEST_WITHIN: Duration = Duration::from_secs(120);

type Start = fn(Arc<Stage>) -> LocalBoxFuture<'static, ()>;

/// Every test of these modules; one that is missing here is dead code, which the compiler tells.
macro_rules! tests {
    ($($area:ident: $($name:ident),+ $(,)?;)+) => {
        [$($((
            concat!(stringify!($area), "::", stringify!($name)),
            (|stage| Box::pin($area::$name(stage))) as Start,
        )),+),+]
    };
}

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let runtime = Arc::new(Runtime::new().expect("an async runtime"));
    if arguments.list {
        let listed = all().into_iter().map(|(name, _)| Trial::test(name, || Err("only listed".into())));
        return libtest_mimic::run(&arguments, listed.collect()).exit_code();
    }
    let stage = bring_up(&runtime);
    let trials = all().into_iter().map(|(name, start)| trial(name, start, &stage, &runtime)).collect();
    let conclusion = libtest_mimic::run(&arguments, trials);
    let left = stage.ok().and_then(Arc::into_inner).map(|stage| runtime.block_on(stage.down()));
    for leftover in left.iter().flatten() {
        eprintln!("left behind: {leftover:?}");
    }
    if left.is_some_and(|left| !left.is_empty()) { ExitCode::FAILURE } else { conclusion.exit_code() }
}

fn all() -> Vec<(&'static str, Start)> {
    tests! {
        orders:
            an_order_its_items_its_stock_and_its_event_are_one_transaction,
            a_refused_order_leaves_nothing,
            an_order_whose_event_cannot_be_written_is_no_order,
            the_same_key_is_the_same_answer,
            sixteen_callers_with_one_key_get_one_order,
            the_same_key_with_another_input_is_refused,
            stock_is_never_oversold,
            orders_for_the_same_products_do_not_deadlock,
            an_order_takes_the_steps_of_its_life_and_no_other,
            one_of_many_contradicting_steps_is_taken,
            a_repeated_step_is_the_first_answer;
        blog:
            a_whole_page_is_read_by_one_operation,
            pages_go_forwards_and_backwards_over_the_same_rows,
            rows_are_made_changed_and_marked_as_deleted,
            null_for_a_key_is_refused_and_changes_nothing,
            functions_read_and_change,
            filters_reach_through_relations_and_are_values_only,
            wrong_variables_are_all_told_at_once,
            introspection_and_data_are_answered_together,
            bombs_of_fragments_and_of_introspection_are_refused,
            a_variable_that_was_not_given_changes_nothing;
        breakers:
            ten_faults_open_the_breaker_of_the_database_and_it_closes_by_itself,
            a_server_without_callers_finds_out_by_its_health_check,
            what_works_by_its_fallback_is_told_and_taken_back,
            a_full_outbox_refuses_what_would_add_an_event_and_nothing_else,
            an_outbox_that_takes_its_share_of_the_disk_is_full;
        differential_test:
            every_planted_bug_is_seen,
            seeds_that_found_a_difference_find_none,
            the_engine_answers_what_a_naive_executor_does;
        lists:
            the_last_rows_of_a_nested_list_come_in_the_order_of_the_list;
        operations:
            each_becomes_the_sql_and_the_shape_of_its_snapshot,
            each_reads_no_large_table_in_full,
            each_is_as_many_statements_as_it_has_roots;
        injection:
            hostile_arguments_of_every_query_change_nothing_and_find_nothing,
            hostile_names_are_refused_before_the_database_sees_them,
            hostile_texts_are_written_and_read_back_as_they_are;
        input:
            every_problem_of_the_variables_is_told_at_once,
            what_stands_for_something_else_is_read_as_that;
        pool:
            a_statement_that_takes_too_long_gives_up_its_connection_and_the_pool_lives_on,
            an_order_that_timed_out_behind_a_lock_is_placed_once_when_it_is_repeated,
            a_silent_database_costs_time_and_no_connection,
            reads_survive_that_every_connection_is_reset,
            more_callers_than_connections_all_get_their_turn;
        pooler:
            orders_and_lists_are_right_though_every_statement_may_meet_another_connection,
            a_refused_statement_leaves_its_connection_usable_and_a_long_one_is_given_up,
            without_the_switch_the_pooler_refuses_and_catalogue_and_explain_need_none,
            migrations_ask_for_a_way_past_the_pooler;
        reload:
            a_changed_database_is_looked_at_when_it_says_so,
            what_was_said_while_the_connection_was_lost_is_made_up_for,
            a_silent_connection_is_noticed_and_made_again;
        replication:
            a_replica_that_falls_behind_is_seen_and_one_that_is_gone_is_not;
        catalogue:
            the_shop_and_the_blog_are_read_as_their_files_say,
            every_feature_of_a_table_is_read,
            every_kind_of_function_is_told_apart,
            only_the_schemas_that_are_asked_for_are_read,
            a_table_of_a_schema_that_was_not_read_is_never_taken_for_one_that_was;
        flags:
            a_database_that_nobody_migrated_leaves_every_flag_off_and_breaks_nothing,
            a_change_on_one_server_is_seen_by_the_others_and_after_a_restart,
            a_database_that_is_away_leaves_the_flags_as_they_were,
            who_changes_an_older_version_is_refused_and_edits_at_once_are_all_kept,
            administrators_read_and_change_flags_and_nobody_else_does,
            the_commands_change_the_flags_of_the_database,
            a_field_behind_a_flag_asks_the_function_that_the_flag_says;
        rollouts:
            a_leader_that_dies_is_followed_and_the_step_goes_on_where_it_was,
            a_leader_that_is_none_any_more_writes_nothing,
            a_rollback_on_another_server_interrupts_a_step_and_can_be_repeated,
            a_bad_version_is_turned_off_by_what_its_callers_meet,
            a_good_version_comes_to_everybody,
            what_cannot_be_asked_of_a_rollout_is_refused,
            administrators_drive_rollouts_over_http_and_by_commands;
        guards:
            no_way_leads_to_what_is_guarded,
            what_a_cache_keeps_is_not_given_to_who_may_not_see_it,
            events_are_told_to_those_who_may_see_them,
            what_is_not_selected_is_not_asked_for,
            roles_and_guards_let_through_whom_they_say,
            a_schema_with_a_guard_that_nobody_registered_is_not_served;
        import:
            what_is_proposed_for_the_blog_and_the_shop_is_served,
            a_hostile_database_gets_a_file_that_is_served,
            a_file_that_is_there_is_not_overwritten;
        functions:
            an_order_is_placed_by_one_call,
            wrong_orders_are_refused_by_name_and_leave_nothing,
            orders_placed_at_once_neither_deadlock_nor_oversell,
            an_order_takes_the_steps_of_its_life_by_calls,
            an_invoice_is_written_once_for_its_job,
            identifiers_grow_with_time;
        migrations:
            a_migration_is_known_by_its_number_its_name_or_its_file,
            the_binary_migrates_a_folder_of_ones_own,
            two_migrators_at_once_leave_each_migration_applied_once,
            a_second_run_changes_nothing,
            a_failing_migration_names_its_file_and_the_reason,
            a_changed_migration_is_told_by_its_file,
            a_blocked_migration_gives_up_by_itself_and_leaves_nothing,
            a_migration_is_tried_again_until_its_lock_is_free,
            a_statement_that_takes_too_long_is_cancelled,
            a_limit_that_one_migration_set_does_not_reach_the_next,
            the_turn_of_another_migrator_is_waited_for_a_bounded_time,
            an_index_is_built_concurrently_while_others_wait_for_their_turn,
            what_a_failed_build_of_an_index_left_is_built_anew;
        migration_examples:
            a_required_column_is_added_while_both_releases_write,
            a_column_gets_another_name_while_both_releases_write,
            the_statements_of_the_checklist_run;
        queue:
            a_job_is_claimed_once_and_gone_after_its_acknowledgement,
            a_claim_that_is_not_acknowledged_in_time_comes_back,
            a_job_that_fails_each_time_is_a_dead_letter_and_kept,
            an_acknowledgement_that_comes_late_still_counts,
            an_effect_happens_once_although_the_job_runs_often,
            a_worker_tries_again_and_the_effect_happens_once,
            a_job_for_an_order_that_is_not_there_ends_as_a_dead_letter;
        cache:
            values_last_for_their_ttl_and_deleted_ones_are_gone,
            claimers_at_once_agree_on_one_value,
            an_answer_is_json_under_its_key_and_lasts_as_long_as_the_directive_says,
            replicas_share_answers_and_invalidations,
            a_cache_that_forgets_everything_is_a_cache_without_answers,
            while_redis_is_away_questions_are_answered_and_mutations_are_made_up_for,
            a_silent_redis_costs_its_timeout_and_no_answer;
        failover:
            a_master_that_is_killed_is_replaced_and_quotas_go_on;
        spool:
            jobs_wait_on_disk_while_redis_is_away_and_take_effect_when_it_is_back,
            a_spool_survives_a_restart_with_a_torn_record_at_its_end,
            a_job_that_redis_may_have_takes_effect_once,
            a_full_spool_refuses_and_says_so;
        notifications:
            a_paid_order_is_confirmed_once_by_each_action,
            what_is_told_belongs_to_the_trace_of_the_change,
            a_target_that_is_away_gets_it_later_and_the_others_at_once,
            what_fails_too_often_or_for_good_is_dead_and_kept_with_the_reason;
        webhooks:
            a_signed_payment_pays_the_order_and_the_customer_is_told,
            one_event_sent_by_many_at_once_has_one_effect,
            what_is_not_signed_is_refused_for_its_reason_and_not_kept,
            what_nobody_handles_is_kept_and_ignored,
            what_could_not_be_done_is_done_later_also_by_another_process,
            what_a_process_left_is_done_once_by_the_next,
            what_is_refused_is_dead_with_the_reason_until_it_is_sent_again,
            what_cannot_be_kept_is_not_acknowledged,
            each_provider_is_believed_by_its_own_header,
            a_handler_that_the_schema_does_not_take_stops_the_start;
        secrecy:
            nothing_that_callers_say_is_in_the_output_of_a_whole_run;
        traces:
            a_created_order_is_one_trace_from_the_caller_to_the_stream,
            a_job_is_executed_in_the_trace_of_who_left_it,
            the_share_that_was_asked_for_is_exported_and_every_failure,
            the_enhanced_variant_says_who_called_and_how_much_they_got;
        outbox:
            events_are_published_under_their_row_id_and_marked,
            a_mark_that_failed_is_made_up_for_before_the_lease_ends,
            an_event_is_not_marked_before_its_acknowledgement_and_not_stored_twice,
            nothing_is_lost_while_nats_is_away,
            relays_side_by_side_share_the_work,
            what_a_dead_relay_had_claimed_comes_back;
        outbox_stream:
            a_repetition_is_dropped_within_the_window_and_kept_after_it,
            a_stream_that_is_there_gets_the_window_and_keeps_everything_else,
            the_window_is_not_longer_than_the_stream_keeps_messages;
        http_audit:
            every_must_and_should_of_graphql_over_http_holds;
        http:
            listed_operations_are_executed_by_name_and_nothing_else_is,
            an_operation_is_registered_by_its_first_caller,
            a_list_of_operations_is_answered_by_a_list,
            answers_from_a_thousand_bytes_on_are_compressed,
            a_caller_who_leaves_takes_the_statement_along,
            a_key_is_needed_for_what_is_guarded_on_every_way_of_asking,
            a_server_without_a_schema_says_so,
            the_page_for_trying_operations_needs_nothing_from_elsewhere;
        rate_limits:
            two_hundred_calls_at_two_replicas_get_ten_through,
            a_script_that_redis_has_forgotten_is_loaded_again,
            what_is_counted_is_in_one_place_and_expires,
            without_redis_each_replica_gives_its_part_and_no_more,
            a_silent_redis_costs_the_timeout_of_the_limits_and_not_its_own,
            each_tier_has_its_limit_and_says_how_it_stands,
            mutations_are_limited_while_reads_go_on,
            a_mutation_answered_as_events_counts_once,
            operations_of_a_socket_count,
            a_request_over_the_cap_waits_and_its_body_with_it,
            who_gets_no_place_costs_no_quota_and_asks_nobody,
            an_operation_of_a_socket_that_gets_no_place_costs_no_quota,
            a_full_queue_refuses;
        subscriptions:
            an_order_is_told_to_every_subscriber_as_it_selected,
            a_filter_lets_through_what_is_asked_for,
            a_slow_client_is_closed_and_the_others_are_not,
            a_stream_that_nobody_reads_is_cut,
            a_consumer_that_nats_forgets_is_made_anew,
            events_of_a_time_without_nats_follow_in_order,
            a_subscription_outlives_the_database,
            the_protocol_is_kept_and_who_breaks_it_is_closed,
            who_does_not_begin_in_time_or_comes_as_one_too_many_is_refused,
            the_end_of_the_server_is_told,
            other_operations_are_answered_as_events_too;
        health:
            each_dependency_is_seen_to_go_and_to_come_back,
            a_silent_dependency_is_unhealthy_within_the_limit;
        memory:
            a_limit_that_the_kernel_keeps_is_seen_when_it_comes_near_and_when_it_is_far;
        json_writing:
            numbers_are_those_of_to_json,
            strings_and_json_are_those_of_to_json,
            dates_and_times_are_those_of_to_json,
            arrays_are_those_of_to_json,
            nested_records_are_those_of_to_json,
            oids_are_those_of_the_catalogue;
    }
    .to_vec()
}

fn bring_up(runtime: &Runtime) -> Result<Arc<Stage>, String> {
    match runtime.block_on(Stage::up()) {
        Ok(stage) => Ok(Arc::new(stage)),
        Err(Error::NotPossible { reason, hint }) => {
            eprintln!("NotRun: {reason}; {hint}");
            Err(format!("{reason}; {hint}"))
        }
        Err(error) => panic!("the stores did not come up: {}", fraiseql_runtime::error::chain(&error)),
    }
}

fn trial(
    name: &'static str,
    start: Start,
    stage: &Result<Arc<Stage>, String>,
    runtime: &Arc<Runtime>,
) -> Trial {
    let pooler = |stage: &Arc<Stage>| stage.bouncer.clone().map(drop).map(|()| stage.clone());
    let stage = match stage {
        Ok(stage) if name.starts_with("pooler::") => &pooler(stage),
        Ok(stage) if name.starts_with("memory::") => &memory::Group::make().map(|_| stage.clone()),
        stage => stage,
    };
    match stage {
        Ok(stage) => {
            let (stage, runtime) = (stage.clone(), runtime.clone());
            Trial::test(name, move || {
                let test = async { tokio::time::timeout(TEST_WITHIN, start(stage)).await };
                runtime
                    .block_on(test)
                    .map_err(|_| Failed::from(format!("did not end within {TEST_WITHIN:?}")))
            })
        }
        Err(reason) => {
            let reason = reason.clone();
            Trial::test(name, move || Err(reason.into())).with_kind("not run").with_ignored_flag(true)
        }
    }
}
