//! What the made-up conversions say.

/// The first has three of ten. Ids beyond 2^53 don't survive as floating point.
pub const CAMPAIGNS: [i64; 8] = [
    9_007_199_254_740_993,
    9_007_199_254_740_992,
    4_000_000_000_002,
    4_000_000_000_003,
    4_000_000_000_004,
    4_000_000_000_005,
    4_000_000_000_006,
    4_000_000_000_007,
];

pub const SOURCES: [&str; 9] = [
    "made-up",
    "popunder",
    "push",
    "",
    "e,mail",
    "\"native\"",
    "'quoted",
    "-minus",
    "été",
];

/// A currency is whatever three characters were sent.
pub const CURRENCIES: [&str; 3] = ["USD", "EUR", "=1A"];

pub const EVENTS: [&str; 8] = [
    "",
    "",
    "",
    "lead",
    "lead",
    "sale",
    "=cmd()",
    "a \"b\",\r\nc",
];

/// Everything that CSV, JSON, a spreadsheet or a store could take for something else.
pub const ODD: [&str; 34] = [
    "plain",
    "",
    "a,b",
    ",",
    "\"",
    "\"\"",
    "say \"x\"",
    "two\nlines",
    "two\r\nlines",
    "\r",
    "\n",
    "\n=1",
    "ends\r\n",
    "=1+1",
    "=cmd|' /C calc'!A0",
    "+49 30",
    "-1",
    "@SUM(A1)",
    "'",
    "''",
    "'=1",
    "'quoted",
    "\ttab",
    "a\tb",
    "\r=1",
    "😀",
    "👩‍👩‍👧 é e\u{301}",
    " blanks ",
    "null",
    "\\N",
    "\\.",
    "a%26b=c+d&e",
    "\u{feff}mark",
    "\u{1}\u{7f}\u{202e}",
];
