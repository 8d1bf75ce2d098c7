//! Reports on a made-up set of 100,000 conversions, held against what the set itself says. Loading
//! takes a while, so that all of it is one scenario.

mod arriving;
mod lists;
mod statistics;

use postern_tests::checker::{Installation, StoreAccess};
use postern_tests::generated::answers::{self, Line};
use postern_tests::generated::question::Question;
use postern_tests::generated::texts::CAMPAIGNS;
use postern_tests::generated::{Plan, Set, load};
use postern_tests::{Answer, Stack, http, on_both, real};
use std::net::SocketAddr;
use std::time::Instant;

on_both!(alone &[]; reports_say_what_was_recorded);

const CONVERSIONS: &str = "/v1/conversions.php";
const STATISTICS: &str = "/v1/stats.php";

/// Six weeks around the day on which Berlin's clocks go back.
const PLAN: Plan = Plan {
    seed: 5,
    conversions: 100_000,
    clicks: 40_000,
    days: (-24, 18),
    partition: 1_000,
};

async fn reports_say_what_was_recorded(stack: &mut Stack) {
    if real::missing(false).is_some() {
        return;
    }
    // Nobody else can make sense of a store that holds what nobody sent.
    stack.spoil();
    let loaded = Loaded::new(stack);
    lists::lists_are_whole_and_in_order(&loaded).await;
    loaded.note("lists");
    statistics::sums_are_those_of_the_list(&loaded).await;
    loaded.note("statistics");
    arriving::what_was_there_comes_once(&loaded, stack).await;
    loaded.note("arriving");
}

/// The set, where it can be asked for, and tokens of campaigns.
struct Loaded {
    set: Set,
    store: StoreAccess,
    reports: SocketAddr,
    /// Those of one, of two and of all campaigns, and an admin's.
    one: Reader,
    two: Reader,
    all: Reader,
    admin: Reader,
    began: Instant,
}

struct Reader {
    token: String,
    sees: Vec<i64>,
}

impl Reader {
    fn ask(&self) -> Question {
        Question::new(&self.sees)
    }
}

impl Loaded {
    fn new(stack: &Stack) -> Self {
        let began = Instant::now();
        let store = Installation::from(stack).store;
        let set = Set::new(PLAN);
        load::load(&store, &set);
        let reader = |campaigns: &[i64]| {
            let ids: Vec<String> = campaigns.iter().map(i64::to_string).collect();
            let mut command = vec!["token", "create", "--name", "e2e", "--campaign"];
            command.extend(ids.iter().map(String::as_str));
            Reader {
                token: stack.said(&command).trim().to_owned(),
                sees: campaigns.to_vec(),
            }
        };
        let loaded = Self {
            set,
            store,
            reports: stack.reports_address(),
            one: reader(&CAMPAIGNS[3..4]),
            two: reader(&[CAMPAIGNS[0], CAMPAIGNS[5]]),
            all: reader(&CAMPAIGNS),
            admin: Reader {
                token: stack.admin_token(),
                sees: CAMPAIGNS.to_vec(),
            },
            began,
        };
        loaded.note("loading");
        loaded
    }

    /// What took how long, for a test that failed.
    #[expect(clippy::print_stdout, reason = "shown where a test failed")]
    fn note(&self, what: &str) {
        println!("{what}: {:?}", self.began.elapsed());
    }

    async fn get(&self, reader: &Reader, target: &str) -> Answer {
        let token = format!("Bearer {}", reader.token);
        let headers = [("authorization", token.as_str())];
        http::request(self.reports, "GET", target, &headers, None).await
    }

    /// The body of an answer that must be good.
    async fn body(&self, reader: &Reader, target: &str) -> String {
        let answer = self.get(reader, target).await;
        let body = answer.body;
        assert_eq!(answer.status, 200, "{target}: {body:.500}");
        body
    }

    async fn format(&self, reader: &Reader, asked: &Question, path: &str, format: &str) -> String {
        let target = asked.target(path, &[("format", format.to_owned())]);
        self.body(reader, &target).await
    }

    /// What a list must be.
    fn list(&self, asked: &Question) -> Vec<Line> {
        let list = asked.list(&self.set.conversions);
        let line = |one| answers::line(one, &asked.zone);
        list.into_iter().map(line).collect()
    }
}

/// Compares two lists; where they differ, only there.
#[track_caller]
fn same<T: PartialEq + std::fmt::Debug>(what: &str, got: &[T], wanted: &[T]) {
    let first = got
        .iter()
        .zip(wanted)
        .position(|(got, wanted)| got != wanted);
    if got.len() == wanted.len() && first.is_none() {
        return;
    }
    let place = first.unwrap_or(got.len().min(wanted.len()));
    panic!(
        "{what}: {} of {}, they differ from number {place} on:\n got {:?}\nnot {:?}",
        got.len(),
        wanted.len(),
        got.get(place),
        wanted.get(place)
    );
}
