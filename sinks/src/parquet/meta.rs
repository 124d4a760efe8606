//! What a block meta holds beside the ledger's fields: time, height and rewards.

use sluice_stages::wire::{Field, Reader, WireError};

/// A reward, borrowed from the frame. The order of the fields is the order of the rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Reward<'a> {
    /// Who got it, base58.
    pub(crate) pubkey: &'a str,
    /// What for, by the protocol's number.
    pub(crate) reward_type: u64,
    /// Lamports credited, negative if debited.
    pub(crate) lamports: i64,
    /// The account's lamports afterwards.
    pub(crate) post_balance: u64,
    /// The vote account's commission in per cent.
    pub(crate) commission: Option<u8>,
}

/// Time, height and rewards of a block.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct MetaDetails<'a> {
    /// Unix seconds.
    pub(crate) block_time: Option<i64>,
    /// Number of blocks beneath.
    pub(crate) block_height: Option<u64>,
    /// In canonical order: RPC and the live stream need not agree on theirs.
    pub(crate) rewards: Vec<Reward<'a>>,
}

impl<'a> MetaDetails<'a> {
    /// Reads the body of a block meta frame.
    pub(crate) fn read(body: &'a [u8]) -> Result<Self, WireError> {
        let mut details = Self::default();
        let mut reader = Reader::new("SubscribeUpdateBlockMeta", body);
        while let Some(field) = reader.next_field()? {
            match field.number {
                3 => details.read_rewards(&field)?,
                4 => details.block_time = Some(wrapped(&field, "UnixTimestamp")? as i64),
                5 => details.block_height = Some(wrapped(&field, "BlockHeight")?),
                _ => {}
            }
        }
        details.rewards.sort_unstable();
        Ok(details)
    }

    fn read_rewards(&mut self, field: &Field<'a>) -> Result<(), WireError> {
        let mut rewards = field.message("Rewards")?;
        while let Some(field) = rewards.next_field()? {
            if field.number == 1 {
                self.rewards.push(read_reward(field.message("Reward")?)?);
            }
        }
        Ok(())
    }
}

/// The number in a message that holds nothing else; proto3 leaves out zero.
fn wrapped(field: &Field<'_>, message: &'static str) -> Result<u64, WireError> {
    let mut reader = field.message(message)?;
    let mut value = 0;
    while let Some(field) = reader.next_field()? {
        if field.number == 1 {
            value = field.varint()?;
        }
    }
    Ok(value)
}

fn read_reward<'a>(mut reader: Reader<'a>) -> Result<Reward<'a>, WireError> {
    let mut reward = Reward { pubkey: "", reward_type: 0, lamports: 0, post_balance: 0, commission: None };
    while let Some(field) = reader.next_field()? {
        match field.number {
            1 => reward.pubkey = field.text()?,
            2 => reward.lamports = field.varint()? as i64,
            3 => reward.post_balance = field.varint()?,
            4 => reward.reward_type = field.varint()?,
            5 => reward.commission = field.text()?.parse().ok(),
            _ => {}
        }
    }
    Ok(reward)
}

/// RPC's word for a kind of reward; `None` for "unspecified" and for kinds that this version does not know.
pub(crate) fn reward_type_name(number: u64) -> Option<&'static str> {
    Some(match number {
        1 => "Fee",
        2 => "Rent",
        3 => "Staking",
        4 => "Voting",
        5 => "DeactivatedStake",
        6 => "VATDebit",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use prost::Message;
    use yellowstone_grpc_proto::geyser::SubscribeUpdateBlockMeta;
    use yellowstone_grpc_proto::solana::storage::confirmed_block::{
        BlockHeight, Reward as WireReward, Rewards, UnixTimestamp,
    };

    use super::*;

    fn reward(pubkey: &str, lamports: i64, commission: &str) -> WireReward {
        WireReward {
            pubkey: pubkey.to_owned(),
            lamports,
            post_balance: 7,
            reward_type: 4,
            commission: commission.to_owned(),
            ..WireReward::default()
        }
    }

    #[test]
    fn rewards_are_in_one_order_whatever_the_wire_says() {
        let rewards = [reward("b", -1, ""), reward("a", 2, "10"), reward("a", 1, "x")];
        let read = |rewards: Vec<WireReward>| {
            let meta = SubscribeUpdateBlockMeta {
                rewards: Some(Rewards { rewards, num_partitions: None }),
                block_time: Some(UnixTimestamp { timestamp: -5 }),
                block_height: Some(BlockHeight { block_height: 0 }),
                ..SubscribeUpdateBlockMeta::default()
            };
            let body = meta.encode_to_vec();
            format!("{:?}", MetaDetails::read(&body).expect("valid"))
        };
        let (mut backwards, forwards) = (rewards.to_vec(), rewards.to_vec());
        backwards.reverse();
        assert_eq!(read(forwards.clone()), read(backwards));
        let text = read(forwards);
        assert!(text.contains("block_time: Some(-5), block_height: Some(0)"), "{text}");
        assert!(text.contains("lamports: -1") && text.contains("commission: Some(10)"), "{text}");
    }

    #[test]
    fn an_absent_time_is_not_zero() {
        assert_eq!(MetaDetails::read(&[]), Ok(MetaDetails::default()));
    }
}
