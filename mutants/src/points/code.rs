//! The walk through a file: what each operator finds in it.

use std::collections::{BTreeSet, HashSet};
use std::mem::discriminant;
use std::ops::Range;

use quote::ToTokens;
use syn::spanned::Spanned;
use syn::visit::{self, Visit};
use syn::{BinOp, Block, Expr, Pat, ReturnType, Signature, Stmt};

use crate::edits::Edit;

use super::touching::Touching;
use super::{Mutant, Mutants, Operator, is_left_out};

/// How long somebody watches before it sleeps is no step of a protocol: there, conditions stay as they are.
const PATIENCE: &str = "src/shared/wait.rs";

/// The most that a name quotes of the code.
const QUOTED_MAX: usize = 90;

/// Adds all mutants of a file.
pub(super) fn collect(
    file: &str,
    source: &str,
    syntax: &syn::File,
    touching: &Touching,
    mutants: &mut Mutants,
) {
    let mut walk = Walk {
        file,
        source,
        touching,
        mutants,
        of: String::new(),
        function: String::new(),
        calls: Vec::new(),
        units: HashSet::new(),
    };
    walk.visit_file(syntax);
}

struct Walk<'a> {
    file: &'a str,
    source: &'a str,
    touching: &'a Touching,
    mutants: &'a mut Mutants,
    /// The type whose functions these are.
    of: String,
    function: String,
    /// The calls around what is looked at.
    calls: Vec<Range<usize>>,
    /// Where blocks begin whose value is nothing.
    units: HashSet<usize>,
}

fn range(syntax: &impl Spanned) -> Range<usize> {
    syntax.span().byte_range()
}

impl Walk<'_> {
    fn text(&self, place: &Range<usize>) -> &str {
        &self.source[place.clone()]
    }

    /// A piece of the code on one line, without comments.
    fn quoted(&self, place: &Range<usize>) -> String {
        let lines = self.text(place).lines().map(|line| line.split("//").next().unwrap_or_default().trim());
        let whole = lines.filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ");
        if whole.chars().count() <= QUOTED_MAX {
            return format!("`{whole}`");
        }
        format!("`{}…`", whole.chars().take(QUOTED_MAX).collect::<String>())
    }

    fn touches(&self, syntax: &impl ToTokens) -> bool {
        self.touching.has(&syntax.to_token_stream())
    }

    fn mutant(&mut self, at: &impl Spanned, operator: Operator, what: String) -> u32 {
        let id = self.mutants.next();
        self.mutants.list.push(Mutant {
            id,
            file: self.file.to_owned(),
            line: at.span().start().line,
            function: self.function.clone(),
            operator,
            what,
        });
        id
    }

    fn edit(&mut self, edit: Edit) {
        self.mutants.edits.entry(self.file.to_owned()).or_default().push(edit);
    }

    /// Another expression in the place of one.
    fn replace(&mut self, expr: &impl Spanned, operator: Operator, what: String, other: &str) {
        let id = self.mutant(expr, operator, what);
        let before = format!("(if crate::mutant::on({id}) {{ {other} }} else {{ ");
        self.edit(Edit::around(id, range(expr), before, " })"));
    }

    fn function(&mut self, signature: &Signature, block: &Block) {
        self.function = match self.of.is_empty() {
            true => signature.ident.to_string(),
            false => format!("{}::{}", self.of, signature.ident),
        };
        match &signature.output {
            ReturnType::Default => drop(self.units.insert(range(block).start)),
            ReturnType::Type(_, answer) if answer.to_token_stream().to_string() == "bool" => {
                self.answer(block);
            }
            ReturnType::Type(..) => {}
        }
    }

    /// A function that answers yes or no says one of them whatever it found.
    fn answer(&mut self, block: &Block) {
        if self.file == PATIENCE {
            return;
        }
        let Some(Stmt::Expr(tail, None)) = block.stmts.last() else { return };
        let effect =
            if self.touches(tail) { self.text(&range(tail)).to_owned() + "; " } else { String::new() };
        for answer in ["true", "false"] {
            if self.text(&range(tail)) == answer {
                continue;
            }
            let what = format!("always answers {answer}, not {}", self.quoted(&range(tail)));
            self.replace(tail, Operator::Condition, what, &format!("{effect}{answer}"));
        }
    }

    /// What a statement without a value does not say: that its blocks have none either.
    fn mark_unit(&mut self, expr: &Expr) {
        match expr {
            Expr::Block(block) => drop(self.units.insert(range(&block.block).start)),
            Expr::ForLoop(each) => drop(self.units.insert(range(&each.body).start)),
            Expr::While(each) => drop(self.units.insert(range(&each.body).start)),
            Expr::Loop(each) => drop(self.units.insert(range(&each.body).start)),
            Expr::If(choice) => {
                self.units.insert(range(&choice.then_branch).start);
                if let Some((_, other)) = &choice.else_branch {
                    self.mark_unit(other);
                }
            }
            Expr::Match(choice) => {
                for arm in &choice.arms {
                    self.mark_unit(&arm.body);
                    self.removal(&*arm.body, &arm.body);
                }
            }
            _ => {}
        }
    }

    fn removal(&mut self, whole: &impl Spanned, expr: &Expr) {
        let is_effect = match expr {
            Expr::MethodCall(_) | Expr::Call(_) | Expr::Try(_) | Expr::Assign(_) => true,
            Expr::Binary(binary) => is_assignment(&binary.op),
            _ => false,
        };
        if is_effect && self.touches(expr) {
            let what = format!("without {}", self.quoted(&range(whole)));
            let id = self.mutant(whole, Operator::Removal, what);
            self.edit(Edit::around(id, range(whole), format!("if !crate::mutant::on({id}) {{ "), " }"));
        }
    }

    /// Each statement that touches shared memory, before the last one that does.
    fn order(&mut self, block: &Block) {
        let mut before: Option<usize> = None;
        for (at, statement) in block.stmts.iter().enumerate() {
            if !self.touches(statement) {
                continue;
            }
            if let (Some(first), Some(expr)) = (before, movable(statement)) {
                let bound: BTreeSet<String> = block.stmts[first..at].iter().flat_map(bindings).collect();
                if idents(&expr.to_token_stream()).is_disjoint(&bound) {
                    self.earlier(&block.stmts[first], expr);
                }
            }
            before = Some(at);
        }
    }

    fn earlier(&mut self, first: &Stmt, second: &Expr) {
        let (place, text) = (range(second), self.text(&range(second)).to_owned());
        let what = format!("{} before {}", self.quoted(&place), self.quoted(&range(first)));
        let id = self.mutant(second, Operator::Order, what);
        let early =
            format!("let early_{id} = if crate::mutant::on({id}) {{ Some({text}) }} else {{ None }}; ");
        self.edit(Edit::at(id, range(first).start, early));
        let before = format!("match early_{id} {{ Some(early) => early, None => {{ ");
        self.edit(Edit::around(id, place, before, " } }"));
    }

    fn condition(&mut self, expr: &Expr) {
        if self.file == PATIENCE {
            return;
        }
        let place = range(expr);
        let what = format!("{} never holds", self.quoted(&place));
        if has_let(expr) {
            let id = self.mutant(expr, Operator::Condition, what);
            self.edit(Edit::at(id, place.start, format!("!crate::mutant::on({id}) && ")));
            return;
        }
        self.replace(expr, Operator::Condition, what, "false");
        if !matches!(expr, Expr::Binary(binary) if matches!(binary.op, BinOp::And(_))) {
            let what = format!("{} always holds", self.quoted(&place));
            self.replace(expr, Operator::Condition, what, "true");
        }
    }
}

impl<'a> Visit<'a> for Walk<'_> {
    fn visit_item_mod(&mut self, item: &'a syn::ItemMod) {
        if !is_left_out(&item.attrs) {
            visit::visit_item_mod(self, item);
        }
    }

    fn visit_item_impl(&mut self, item: &'a syn::ItemImpl) {
        self.of = item.self_ty.to_token_stream().to_string();
        visit::visit_item_impl(self, item);
        self.of.clear();
    }

    fn visit_item_fn(&mut self, item: &'a syn::ItemFn) {
        if !is_left_out(&item.attrs) && item.sig.constness.is_none() {
            self.function(&item.sig, &item.block);
            visit::visit_item_fn(self, item);
        }
    }

    fn visit_impl_item_fn(&mut self, item: &'a syn::ImplItemFn) {
        // What is shown to people in a debugger is no step of a protocol.
        if !is_left_out(&item.attrs) && item.sig.constness.is_none() && item.sig.ident != "fmt" {
            self.function(&item.sig, &item.block);
            visit::visit_impl_item_fn(self, item);
        }
    }

    fn visit_block(&mut self, block: &'a Block) {
        let is_unit = self.units.contains(&range(block).start);
        for (at, statement) in block.stmts.iter().enumerate() {
            let Stmt::Expr(expr, end) = statement else { continue };
            let is_last = at + 1 == block.stmts.len();
            if end.is_some() || !is_last || is_unit {
                self.removal(statement, expr);
                self.mark_unit(expr);
            }
        }
        self.order(block);
        visit::visit_block(self, block);
    }

    fn visit_expr_if(&mut self, expr: &'a syn::ExprIf) {
        self.condition(&expr.cond);
        visit::visit_expr_if(self, expr);
    }

    fn visit_expr_while(&mut self, expr: &'a syn::ExprWhile) {
        self.condition(&expr.cond);
        visit::visit_expr_while(self, expr);
    }

    fn visit_pat_guard(&mut self, pattern: &'a syn::PatGuard) {
        self.condition(&pattern.guard);
        visit::visit_pat_guard(self, pattern);
    }

    fn visit_expr_binary(&mut self, expr: &'a syn::ExprBinary) {
        let neutral = match expr.op {
            BinOp::And(_) if self.file != PATIENCE => "true",
            BinOp::Or(_) if self.file != PATIENCE => "false",
            _ => return visit::visit_expr_binary(self, expr),
        };
        for side in [&*expr.left, &*expr.right] {
            let is_chain =
                matches!(side, Expr::Binary(inner) if discriminant(&inner.op) == discriminant(&expr.op));
            if !is_chain && !matches!(side, Expr::Let(_)) {
                let word = if neutral == "true" { "always" } else { "never" };
                let what =
                    format!("{} {word} holds in {}", self.quoted(&range(side)), self.quoted(&range(expr)));
                self.replace(side, Operator::Condition, what, neutral);
            }
        }
        visit::visit_expr_binary(self, expr);
    }

    fn visit_expr_call(&mut self, expr: &'a syn::ExprCall) {
        self.calls.push(range(expr));
        visit::visit_expr_call(self, expr);
        self.calls.pop();
    }

    fn visit_expr_method_call(&mut self, expr: &'a syn::ExprMethodCall) {
        self.calls.push(range(expr));
        if expr.method == "compare_exchange" {
            let part = |part: &Expr| self.text(&range(part)).to_owned();
            let (word, new, ordering) = (part(&expr.receiver), part(&expr.args[1]), part(&expr.args[2]));
            let what = format!("{} does not compare", self.quoted(&range(expr)));
            let swap = format!("Ok::<u64, u64>({word}.swap({new}, {ordering}))");
            self.replace(expr, Operator::Comparison, what, &swap);
        }
        visit::visit_expr_method_call(self, expr);
        self.calls.pop();
    }

    fn visit_expr_path(&mut self, expr: &'a syn::ExprPath) {
        let Some(last) = expr.path.segments.last() else { return };
        let weaker: &[&str] = match last.ident.to_string().as_str() {
            "Acquire" | "Release" => &["Relaxed"],
            "AcqRel" => &["Acquire", "Release", "Relaxed"],
            "SeqCst" => &["AcqRel"],
            _ => return,
        };
        let call = self.calls.last().cloned().unwrap_or_else(|| range(expr));
        for ordering in weaker {
            let what = format!("{} → {ordering} in {}", last.ident, self.quoted(&call));
            self.replace(expr, Operator::Ordering, what, &format!("crate::atomic::Ordering::{ordering}"));
        }
    }
}

fn is_assignment(op: &BinOp) -> bool {
    op.to_token_stream().to_string().ends_with('=')
        && !matches!(op, BinOp::Eq(_) | BinOp::Ne(_) | BinOp::Le(_) | BinOp::Ge(_))
}

fn has_let(expr: &Expr) -> bool {
    match expr {
        Expr::Let(_) => true,
        Expr::Binary(binary) => has_let(&binary.left) || has_let(&binary.right),
        _ => false,
    }
}

/// What of a statement can be done earlier.
fn movable(statement: &Stmt) -> Option<&Expr> {
    match statement {
        Stmt::Local(local) => {
            local.init.as_ref().filter(|init| init.diverge.is_none()).map(|init| &*init.expr)
        }
        Stmt::Expr(Expr::Return(_) | Expr::Break(_) | Expr::Continue(_), _) => None,
        Stmt::Expr(expr, _) => Some(expr),
        _ => None,
    }
}

/// The names that a statement brings.
fn bindings(statement: &Stmt) -> BTreeSet<String> {
    struct Names(BTreeSet<String>);
    impl<'a> Visit<'a> for Names {
        fn visit_pat_ident(&mut self, pattern: &'a syn::PatIdent) {
            self.0.insert(pattern.ident.to_string());
        }
    }
    let mut names = Names(BTreeSet::new());
    if let Stmt::Local(local) = statement {
        let pattern: &Pat = &local.pat;
        names.visit_pat(pattern);
    }
    names.0
}

fn idents(tokens: &proc_macro2::TokenStream) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for tree in tokens.clone() {
        match tree {
            proc_macro2::TokenTree::Ident(ident) => drop(found.insert(ident.to_string())),
            proc_macro2::TokenTree::Group(group) => found.append(&mut idents(&group.stream())),
            _ => {}
        }
    }
    found
}
