//! A scenario as a test: on one kind of stack, or left out where its parts are missing.

use crate::process::Settings;
use crate::real;
use crate::stack::{Kind, Stack};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use tokio::runtime::{Builder, Runtime};

fn runtime() -> Runtime {
    Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
}

/// Runs a test that needs no stack.
pub fn plain(test: impl AsyncFnOnce()) {
    runtime().block_on(test());
}

/// Runs a scenario on the stack that is shared.
pub fn shared(kind: Kind, scenario: impl AsyncFnOnce(&Stack)) {
    if kind == Kind::Real && real::missing(true).is_some() {
        return;
    }
    let runtime = runtime();
    let stack = runtime.block_on(Stack::shared(kind));
    let done = catch_unwind(AssertUnwindSafe(|| runtime.block_on(scenario(stack))));
    if let Err(panic) = done {
        stack.show();
        resume_unwind(panic);
    }
}

/// Runs a scenario on a stack of its own.
pub fn alone(kind: Kind, settings: &Settings, scenario: impl AsyncFnOnce(&mut Stack)) {
    if kind == Kind::Real && real::missing(true).is_some() {
        return;
    }
    runtime().block_on(async {
        let mut stack = Stack::alone(kind, settings).await;
        scenario(&mut stack).await;
    });
}

/// Makes tests `embedded` and `kafka_postgres` of each scenario, in a module of its name.
#[macro_export]
macro_rules! on_both {
    (shared: $($scenario:ident),+ $(,)?) => {$(
        mod $scenario {
            #[test]
            fn embedded() {
                $crate::run::shared($crate::Kind::Embedded, super::$scenario);
            }

            #[test]
            fn kafka_postgres() {
                $crate::run::shared($crate::Kind::Real, super::$scenario);
            }
        }
    )+};
    (alone $settings:expr; $($scenario:ident),+ $(,)?) => {$(
        mod $scenario {
            #[test]
            fn embedded() {
                let settings = $crate::process::settings($settings);
                $crate::run::alone($crate::Kind::Embedded, &settings, super::$scenario);
            }

            #[test]
            fn kafka_postgres() {
                let settings = $crate::process::settings($settings);
                $crate::run::alone($crate::Kind::Real, &settings, super::$scenario);
            }
        }
    )+};
}
