use super::{Content, Said, Tag};
use crate::admin::console::HTML;

pub(in crate::admin) fn page() -> Said {
    Said::of(
        "console",
        Tag::Console,
        "The console",
        "A page for people. It holds no secret and asks nobody who they are; what it shows it gets over the routes of this \
         document, with the token that a person gives it.",
    )
    .answers(200, "The page.", Content::Text(HTML))
    .answers(304, "It has not changed since the one that is named in `If-None-Match`.", Content::Nothing)
}

pub(in crate::admin) fn file() -> Said {
    Said::of("consoleFile", Tag::Console, "A file of the console", "A script, the style or the icon of the page.")
        .answers(200, "The file, with its own media type.", Content::Bytes("*/*"))
        .answers(304, "It has not changed since the one that is named in `If-None-Match`.", Content::Nothing)
        .fails(404, &["no-such-file"])
}
