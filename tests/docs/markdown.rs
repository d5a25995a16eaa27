//! A page as a reader's browser has it: headings with their anchors, links, code.

use std::collections::BTreeMap;

use pulldown_cmark::{CodeBlockKind, Event, Options, Parser, Tag, TagEnd};

/// The parts of a page that the tests check.
#[derive(Default)]
pub struct Page {
    /// The path from the root.
    pub path: String,
    /// The anchor of each heading, in order; a repeated heading has a number at its end.
    pub anchors: Vec<String>,
    /// The anchors without their numbers.
    pub headings: Vec<String>,
    /// The targets of links and images.
    pub links: Vec<String>,
    /// Code within sentences.
    pub inline_code: Vec<String>,
    pub blocks: Vec<Block>,
}

/// A fenced block of code.
#[derive(Default)]
pub struct Block {
    /// The text after the fence: the language, and the file that a program is written to.
    pub info: String,
    pub text: String,
}

impl Page {
    /// Reads the Markdown of a page.
    pub fn parse(path: &str, text: &str) -> Self {
        let mut page = Self { path: path.to_owned(), ..Self::default() };
        let mut heading: Option<String> = None;
        let mut block: Option<Block> = None;
        for event in Parser::new_ext(text, Options::ENABLE_TABLES) {
            match event {
                Event::Start(Tag::Heading { .. }) => heading = Some(String::new()),
                Event::End(TagEnd::Heading(_)) => page.headings.extend(heading.take().map(|text| slug(&text))),
                Event::Start(Tag::CodeBlock(CodeBlockKind::Fenced(info))) => {
                    block = Some(Block { info: info.to_string(), text: String::new() });
                }
                Event::End(TagEnd::CodeBlock) => page.blocks.extend(block.take()),
                Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) => {
                    page.links.push(dest_url.to_string());
                }
                Event::Html(html) | Event::InlineHtml(html) => page.links.extend(html_links(&html)),
                Event::Code(code) => {
                    heading.iter_mut().for_each(|heading| heading.push_str(&code));
                    page.inline_code.push(code.to_string());
                }
                Event::Text(text) => {
                    heading.iter_mut().for_each(|heading| heading.push_str(&text));
                    block.iter_mut().for_each(|block| block.text.push_str(&text));
                }
                _ => {}
            }
        }
        page.anchors = numbered(&page.headings);
        page
    }
}

/// Returns the targets of `src` and `href` in a piece of HTML.
fn html_links(html: &str) -> Vec<String> {
    let mut links = Vec::new();
    for attribute in ["src=\"", "href=\""] {
        links.extend(html.split(attribute).skip(1).filter_map(|rest| rest.split('"').next()).map(str::to_owned));
    }
    links
}

/// Returns the anchor of a heading, as GitHub makes it.
fn slug(heading: &str) -> String {
    let kept = heading.trim().to_lowercase();
    let kept = kept.chars().filter(|letter| letter.is_alphanumeric() || " -_".contains(*letter));
    kept.map(|letter| if letter == ' ' { '-' } else { letter }).collect()
}

/// Adds a number to each heading that occurred before.
fn numbered(headings: &[String]) -> Vec<String> {
    let mut seen = BTreeMap::new();
    let mut anchors = Vec::new();
    for heading in headings {
        let count = seen.entry(heading).and_modify(|count| *count += 1).or_insert(0);
        anchors.push(if *count == 0 { heading.clone() } else { format!("{heading}-{count}") });
    }
    anchors
}

#[test]
fn headings_links_and_code_of_a_page_are_found() {
    let text = "# A `b` page, twice\n## A b page twice\n[to](x.md#y) `c/d.rs` <img src=\"i.svg\">\n```sh\nls\n```\n";
    let page = Page::parse("p.md", text);
    assert_eq!(page.anchors, ["a-b-page-twice", "a-b-page-twice-1"]);
    assert_eq!(page.links, ["x.md#y", "i.svg"]);
    assert_eq!(page.inline_code, ["b", "c/d.rs"]);
    assert_eq!((page.blocks[0].info.as_str(), page.blocks[0].text.as_str()), ("sh", "ls\n"));
}
