//! The documents, as far as they can be run.

use crate::directory;

/// A fenced block: its language and its text.
#[derive(Debug)]
pub struct Block {
    pub language: String,
    pub text: String,
}

/// The fenced blocks of a page, under headings that are of interest.
#[must_use]
pub fn blocks_of(page: &str, is_of_interest: impl Fn(&str) -> bool) -> Vec<Block> {
    let text = std::fs::read_to_string(directory::repository().join(page)).unwrap();
    let mut blocks: Vec<Block> = Vec::new();
    let (mut here, mut open) = (false, false);
    for line in text.lines() {
        if let Some(language) = line.strip_prefix("```") {
            open = !open;
            if open && here {
                blocks.push(Block {
                    language: language.to_owned(),
                    text: String::new(),
                });
            }
        } else if !open && line.starts_with('#') {
            here = is_of_interest(line);
        } else if open && here {
            let block = blocks.last_mut().unwrap();
            block.text.push_str(line);
            block.text.push('\n');
        }
    }
    blocks
}
