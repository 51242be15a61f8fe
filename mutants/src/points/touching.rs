//! Which functions touch shared memory: the atomics' own, and whatever calls one of them, by name.

use std::collections::BTreeSet;

use proc_macro2::{Delimiter, TokenStream, TokenTree};
use quote::ToTokens;
use syn::visit::{self, Visit};

use super::is_left_out;

/// What touches shared memory, or the kernel's knowledge of it, by itself. A prefetch changes nothing.
const SEEDS: [&str; 24] = [
    "load",
    "store",
    "swap",
    "fetch_add",
    "fetch_sub",
    "compare_exchange",
    "fence",
    "fence_after_update",
    "fence_against_barrier",
    "barrier",
    "wake",
    "sleep",
    "read",
    "write",
    "reserve",
    "punch",
    "try_lock",
    "unlock",
    "is_free",
    "pin",
    "unlink",
    "still",
    "still_dead",
    "has_unread",
];

/// Names that others bear as well, collections above all: they count with the name before the dot.
const COMMON: [&str; 9] = ["new", "of", "from", "len", "is", "take", "open", "front", "get"];
const QUALIFIED: [&str; 6] =
    ["participants.is", "participants.open", "ring.take", "self.is", "ring.front", "self.front"];

/// The names of functions.
pub(super) struct Touching(BTreeSet<String>);

/// All names of functions in these files that touch shared memory.
pub(super) fn names<'a>(files: impl Iterator<Item = &'a syn::File>) -> Touching {
    let mut functions = Functions(Vec::new());
    files.for_each(|file| functions.visit_file(file));
    let mut touching = Touching(SEEDS.iter().chain(&QUALIFIED).map(|name| (*name).to_owned()).collect());
    loop {
        let before = touching.0.len();
        for (name, body) in &functions.0 {
            if !COMMON.contains(&name.as_str()) && touching.has(body) {
                touching.0.insert(name.clone());
            }
        }
        if touching.0.len() == before {
            return touching;
        }
    }
}

impl Touching {
    /// Whether a piece of syntax calls one of them.
    pub(super) fn has(&self, tokens: &TokenStream) -> bool {
        let trees: Vec<TokenTree> = tokens.clone().into_iter().collect();
        trees.iter().enumerate().any(|(at, tree)| match (tree, trees.get(at + 1)) {
            (TokenTree::Group(group), _) => self.has(&group.stream()),
            (TokenTree::Ident(name), Some(TokenTree::Group(arguments)))
                if arguments.delimiter() == Delimiter::Parenthesis =>
            {
                self.0.contains(&name.to_string()) || self.0.contains(&qualified(&trees[..=at]))
            }
            _ => false,
        })
    }
}

/// `owner.name` of what ends so.
fn qualified(trees: &[TokenTree]) -> String {
    match trees {
        [.., owner, TokenTree::Punct(dot), name] if dot.as_char() == '.' => format!("{owner}.{name}"),
        _ => String::new(),
    }
}

/// Every function with a body, and every closure with a name.
struct Functions(Vec<(String, TokenStream)>);

impl<'a> Visit<'a> for Functions {
    fn visit_item_mod(&mut self, item: &'a syn::ItemMod) {
        if !is_left_out(&item.attrs) {
            visit::visit_item_mod(self, item);
        }
    }

    fn visit_item_fn(&mut self, item: &'a syn::ItemFn) {
        self.0.push((item.sig.ident.to_string(), item.block.to_token_stream()));
        visit::visit_item_fn(self, item);
    }

    fn visit_impl_item_fn(&mut self, item: &'a syn::ImplItemFn) {
        self.0.push((item.sig.ident.to_string(), item.block.to_token_stream()));
        visit::visit_impl_item_fn(self, item);
    }

    fn visit_local(&mut self, local: &'a syn::Local) {
        if let (syn::Pat::Ident(name), Some(init)) = (&local.pat, &local.init)
            && let syn::Expr::Closure(closure) = &*init.expr
        {
            self.0.push((name.ident.to_string(), closure.body.to_token_stream()));
        }
        visit::visit_local(self, local);
    }
}
