//! `userlist NAME` sections.

use super::args::Args;
use super::lexer::Word;
use crate::config::Userlist;
use crate::config::sections::{Password, User};

/// Words of a userlist section.
const WORDS: &[&str] = &["user", "group"];

/// A line of the section.
pub(super) fn directive(keyword: &Word, args: &mut Args<'_, '_>, list: &mut Userlist) {
    match keyword.text.as_str() {
        "user" => user(args, list),
        "group" => group(args, list),
        _ => {
            args.unknown(keyword, "word in userlist", &[WORDS]);
            args.skip_rest();
        }
    }
}

fn user(args: &mut Args<'_, '_>, list: &mut Userlist) {
    let Some(name) = args.value("a name") else { return };
    if list.users.iter().any(|user| user.name == name.text) {
        args.error(name, "name-twice", format!("user `{}` exists already", name.text), "");
    }
    let mut user = User { name: name.text.clone(), password: None };
    while let Some(word) = args.next() {
        match word.text.as_str() {
            "password" => user.password = args.text("a password").map(Password::Crypt),
            "insecure-password" => user.password = args.text("a password").map(Password::Plain),
            "groups" => {
                let Some(groups) = args.text("names of groups") else { return };
                for group in groups.split(',') {
                    add(list, group, std::slice::from_ref(&user.name));
                }
            }
            _ => {
                args.unknown(word, "word after user", &[&["password", "insecure-password", "groups"]]);
                return args.skip_rest();
            }
        }
    }
    list.users.push(user);
}

fn group(args: &mut Args<'_, '_>, list: &mut Userlist) {
    let Some(name) = args.text("a name") else { return };
    let mut members = Vec::new();
    if args.take("users") {
        let Some(users) = args.text("names of users") else { return };
        members = users.split(',').map(str::to_owned).collect();
    }
    add(list, &name, &members);
}

fn add(list: &mut Userlist, group: &str, members: &[String]) {
    match list.groups.iter_mut().find(|(name, _)| name == group) {
        Some((_, users)) => {
            users
                .extend(members.iter().filter(|member| !users.contains(member)).cloned().collect::<Vec<_>>());
        }
        None => list.groups.push((group.to_owned(), members.to_vec())),
    }
}
