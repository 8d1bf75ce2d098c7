//! The store's contract: one suite, run against both engines.
//!
//! libsql is always there. PostgreSQL is the server that `POSTERN_TEST_POSTGRES` names (the suite
//! makes databases of its own there and drops them), else a temporary one of Debian's package;
//! where there is neither, that is said, and with `CI=true` it is a failure.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod atomic;
mod campaigns;
mod commits;
#[path = "../../../core/src/decision/tests/domain.rs"]
mod domain;
mod engine;
mod expiry;
mod histories;
// Read by the decision's own tests too.
#[path = "../../../core/src/decision/tests/history.rs"]
mod history;
#[path = "../../../core/src/decision/tests/model.rs"]
mod model;
mod reading;
mod reports;
mod schema;
mod waiting;
mod world;

use engine::Engine;

/// Runs every case on an empty store.
macro_rules! suite {
    ($engine:expr, $($module:ident::$case:ident),* $(,)?) => {
        $($module::$case(&$engine.database().await).await;)*
    };
}

async fn contract(engine: &Engine) {
    suite!(
        engine,
        schema::without_a_schema_everything_says_so,
        schema::migrating_twice_and_two_at_once_is_harmless,
        schema::rows_of_the_first_schema_are_taken_over,
        schema::a_newer_schema_is_refused,
        schema::topics_are_recorded_once,
        schema::of_two_at_once_one_records_the_topics,
        commits::partitions_are_created_once_and_read_in_order,
        commits::a_commit_moves_the_row_and_counts,
        commits::a_stale_writer_writes_nothing_at_all,
        commits::of_two_writers_one_wins,
        commits::a_batch_without_partitions_is_refused,
        commits::a_refused_batch_leaves_nothing,
        commits::a_click_counts_once,
        commits::statistics_are_the_sums_of_the_conversions,
        commits::sums_beyond_64_bits_of_millionths_hold,
        commits::a_commit_that_is_given_up_leaves_no_transaction,
        atomic::a_failure_anywhere_leaves_nothing,
        atomic::who_waited_compares_what_the_other_left,
        commits::rejects_move_once,
        expiry::old_rows_go_the_oldest_first,
        expiry::the_log_takes_its_later_steps_along,
        expiry::who_waited_too_long_is_named_and_counted,
        expiry::the_longest_window_counts,
        reading::every_field_comes_back,
        reading::nul_in_text_is_no_passing_error,
        reading::duplicates_echo_the_stored_conversion,
        waiting::a_late_click_changes_what_is_known,
        waiting::the_latest_of_several_changes_holds,
        waiting::unmatched_postbacks_are_found_and_counted,
        campaigns::what_is_set_is_read_back,
        campaigns::the_defaults_can_be_set,
        campaigns::all_or_none_are_set,
        campaigns::changes_at_once_follow_each_other,
        campaigns::what_is_not_published_is_swept,
        campaigns::publishers_keep_the_order,
        campaigns::tokens_are_known_by_their_ids,
        campaigns::an_advertiser_has_the_campaigns_that_name_it,
        reading::policies_come_with_clicks_conversions_and_campaigns,
        reading::conversions_are_read_in_order,
        reading::conversions_of_a_click_keep_their_order,
        reading::large_lookups_work,
        reading::refused_postbacks_are_logged_once,
        reading::a_refused_postback_sent_again_is_logged_anew,
        reports::pages_hold_each_conversion_once,
        reports::statistics_are_what_summing_gives,
        reports::the_log_is_found_by_its_campaigns,
        histories::any_history_comes_to_what_the_model_says,
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sqlite() {
    contract(&Engine::sqlite()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres() {
    if let Some(engine) = Engine::postgres().await {
        contract(&engine).await;
        reading::lookups_go_by_key_however_empty_the_tables_were(&engine.database().await).await;
        reports::a_question_that_takes_too_long_is_given_up(&engine.database().await).await;
        commits::a_held_row_times_out_as_unavailable(&engine.database().await).await;
        commits::a_deadlock_leaves_nothing_and_passes(&engine.database().await).await;
        commits::a_serialization_failure_leaves_nothing_and_passes(&engine.database().await).await;
        engine::broken_connections_are_replaced(&engine.database().await).await;
        engine.remove().await;
    }
}
