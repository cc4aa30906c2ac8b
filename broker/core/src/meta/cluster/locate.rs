//! Where a new queue lives.

use super::Member;
use crate::ids::NodeId;
use crate::meta::options::{LeaderLocator, MirrorMode, QueueType};
use crate::meta::policy::PolicyBook;
use crate::meta::{DeclareQueue, MetaSm, QueueOptions};

/// Chooses home and mirrors of a queue that is about to be declared on `me`, as its arguments and policies want it,
/// or else as `default` says. `roll` is any number: what `random` goes by.
///
/// Mirrors that a queue has from its beginning need not be filled, and its first message is as safe as its last.
pub fn locate(
    sm: &MetaSm,
    book: &PolicyBook,
    declare: &mut DeclareQueue,
    me: NodeId,
    default: LeaderLocator,
    roll: u64,
) {
    declare.home = me;
    declare.mirrors.clear();
    // RabbitMQ: exclusive queues live where their connection does.
    if declare.owner.is_some() || sm.members().nth(1).is_none() {
        return;
    }
    let own = QueueOptions::shared(&declare.arguments);
    let (_, options) = book.options_of(declare.vhost, &declare.name, &own);
    let usable: Vec<&Member> = sm.members().filter(|member| member.takes_queues()).collect();
    let listed = |member: &Member| match (options.queue_type, &options.mirroring) {
        (QueueType::Classic, Some(mirroring)) => match &mirroring.mode {
            MirrorMode::Nodes(names) => names.iter().any(|name| **name == *member.name),
            _ => true,
        },
        _ => true,
    };
    let mut candidates: Vec<&Member> = usable.iter().copied().filter(|member| listed(member)).collect();
    if candidates.is_empty() {
        // None of the nodes that the policy names is up: mirrors come when they are.
        candidates = usable.into_iter().filter(|member| member.id == me).collect();
    }
    let least = |member: &&&Member| (sm.loads().leads(member.id), member.id != me, member.id);
    let home = match options.locator.unwrap_or(default) {
        LeaderLocator::ClientLocal => candidates.iter().find(|member| member.id == me).or(candidates.first()),
        LeaderLocator::MinMasters => candidates.iter().min_by_key(least),
        LeaderLocator::Random => candidates.get((roll % candidates.len().max(1) as u64) as usize),
    };
    declare.home = home.map_or(me, |member| member.id);
    if !declare.durable || (options.queue_type == QueueType::Classic && options.mirroring.is_none()) {
        return;
    }
    let mut others: Vec<NodeId> =
        candidates.iter().map(|member| member.id).filter(|node| *node != declare.home).collect();
    others.sort_by_key(|node| (sm.loads().copies(*node), *node));
    if let Some(copies) = options.copies() {
        others.truncate(copies - 1);
    }
    declare.mirrors = others;
}
