//! A plain scene: one of everything that a campaign without settings has.

use super::scene::{How, Scene};

/// Ids that the faults are planted at.
pub(super) struct Ids {
    pub(super) standard: String,
    pub(super) duplicate: String,
    pub(super) queued: String,
    pub(super) unknown: String,
    pub(super) late: String,
    pub(super) refused: String,
}

/// One of everything.
pub(super) fn clean() -> (Scene, Ids) {
    let mut scene = Scene::new();
    for clickid in ["a", "b", "c", "d"] {
        scene.click(clickid);
    }
    let standard = scene.standard("a", "1.20", How::Directly);
    let duplicate = scene.duplicate(&standard, "7.5", How::Directly);
    let queued = scene.standard("b", "0.999999", How::Queued);
    scene.duplicate(&queued, "3", How::Queued);
    let lost = scene.standard("c", "2", How::NotAtAll);
    scene.duplicate(&lost, "4", How::Directly);
    let unknown = scene.unknown("none", "1");
    let late = scene.unknown("late", "5");
    let later = scene.unknown("late", "6");
    scene.heal("late", &late, &later);
    scene.duplicate(&late, "8", How::Directly);
    scene.standard("d", "0.000001", How::Directly);
    let refused = scene.refuse();
    let ids = Ids {
        standard,
        duplicate,
        queued,
        unknown,
        late,
        refused,
    };
    (scene, ids)
}
