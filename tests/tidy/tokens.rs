//! Rust as tokens: enough grammar for the rules, and no more.

use proc_macro2::{Delimiter, Group, TokenStream, TokenTree};

/// All words of a token list, groups opened.
pub(crate) fn flat(tokens: &[TokenTree]) -> Vec<String> {
    let mut words = Vec::new();
    walk(tokens, &mut |tokens, at| words.extend(ident(&tokens[at])));
    words
}

/// Every path of this crate or the standard library that a file names, absolute, with its line: `crate::a::{b, c::d}` is two.
pub(crate) fn paths(tokens: &[TokenTree], own: &[String]) -> Vec<(usize, Vec<String>)> {
    let mut found = Vec::new();
    walk(tokens, &mut |tokens, at| {
        let starts = !(at > 1 && is_punct(&tokens[at - 1], ':') && is_punct(&tokens[at - 2], ':'));
        let base = match ident(&tokens[at]).as_deref() {
            Some("crate") if starts => Vec::new(),
            Some("super") if starts => own[..own.len() - 1].to_vec(),
            Some(root @ ("std" | "core")) if starts => vec![root.to_owned()],
            _ => return,
        };
        follow(&tokens[at + 1..], base, tokens[at].span().start().line, &mut found);
    });
    found
}

fn follow(tokens: &[TokenTree], mut path: Vec<String>, line: usize, found: &mut Vec<(usize, Vec<String>)>) {
    let mut rest = tokens;
    while let [colon, second, next, ..] = rest {
        if !is_punct(colon, ':') || !is_punct(second, ':') {
            break;
        }
        match next {
            TokenTree::Ident(word) if word == "super" => drop(path.pop()),
            TokenTree::Ident(word) => path.push(word.to_string()),
            TokenTree::Group(group) if group.delimiter() == Delimiter::Brace => {
                let inner: Vec<TokenTree> = group.stream().into_iter().collect();
                for item in inner.split(|token| is_punct(token, ',')) {
                    if let Some(TokenTree::Ident(word)) = item.first() {
                        let mut longer = path.clone();
                        longer.push(word.to_string());
                        follow(&item[1..], longer, word.span().start().line, found);
                    }
                }
                return;
            }
            _ => break,
        }
        rest = &rest[3..];
    }
    found.push((line, path));
}

/// Every function that has a body, with it.
pub(crate) fn functions(tokens: &[TokenTree]) -> Vec<(String, Group)> {
    let mut found = Vec::new();
    walk(tokens, &mut |tokens, at| {
        let (Some("fn"), Some(name)) = (ident(&tokens[at]).as_deref(), tokens.get(at + 1).and_then(ident))
        else {
            return;
        };
        let end =
            tokens[at..].iter().take_while(|token| !is_punct(token, ';')).find_map(|token| match token {
                TokenTree::Group(group) if group.delimiter() == Delimiter::Brace => Some(group.clone()),
                _ => None,
            });
        found.extend(end.map(|body| (name, body)));
    });
    found
}

pub(crate) fn idents(tokens: &[TokenTree], wanted: impl Fn(&str) -> bool) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    walk(tokens, &mut |tokens, at| {
        if let Some(word) = ident(&tokens[at]).filter(|word| wanted(word)) {
            found.push((tokens[at].span().start().line, word));
        }
    });
    found
}

/// Calls `look` with every token, in its list.
pub(crate) fn walk(tokens: &[TokenTree], look: &mut dyn FnMut(&[TokenTree], usize)) {
    for (at, token) in tokens.iter().enumerate() {
        look(tokens, at);
        if let TokenTree::Group(group) = token {
            walk(&group.stream().into_iter().collect::<Vec<_>>(), look);
        }
    }
}

/// Drops what follows `#[cfg(test)]` or `#[cfg(... loom ...)]` up to its end: a body in braces or a semicolon.
pub(crate) fn without_tests(tokens: TokenStream) -> Vec<TokenTree> {
    let mut kept: Vec<TokenTree> = Vec::new();
    let mut rest = tokens.into_iter().peekable();
    while let Some(token) = rest.next() {
        let is_test = match (&token, rest.peek()) {
            (TokenTree::Punct(hash), Some(TokenTree::Group(group))) if hash.as_char() == '#' => {
                let words = flat(&group.stream().into_iter().collect::<Vec<_>>());
                words.first().is_some_and(|word| word == "cfg") && words.iter().any(|word| word == "test")
                    || words == ["test"]
            }
            _ => false,
        };
        match token {
            _ if is_test => {
                for skipped in rest.by_ref() {
                    let is_body =
                        matches!(&skipped, TokenTree::Group(g) if g.delimiter() == Delimiter::Brace);
                    if is_body || is_punct(&skipped, ';') {
                        break;
                    }
                }
            }
            TokenTree::Group(group) => {
                let mut inner =
                    Group::new(group.delimiter(), without_tests(group.stream()).into_iter().collect());
                inner.set_span(group.span());
                kept.push(TokenTree::Group(inner));
            }
            token => kept.push(token),
        }
    }
    kept
}

pub(crate) fn ident(token: &TokenTree) -> Option<String> {
    if let TokenTree::Ident(word) = token { Some(word.to_string()) } else { None }
}

pub(crate) fn is_punct(token: &TokenTree, wanted: char) -> bool {
    matches!(token, TokenTree::Punct(punct) if punct.as_char() == wanted)
}

pub(crate) fn in_parentheses(token: &TokenTree) -> Option<&Group> {
    match token {
        TokenTree::Group(group) if group.delimiter() == Delimiter::Parenthesis => Some(group),
        _ => None,
    }
}

pub(crate) fn last_argument(call: &Group) -> String {
    let tokens: Vec<TokenTree> = call.stream().into_iter().collect();
    let mut arguments = tokens.split(|token| is_punct(token, ',')).filter(|argument| !argument.is_empty());
    arguments.next_back().unwrap_or_default().iter().map(ToString::to_string).collect()
}
