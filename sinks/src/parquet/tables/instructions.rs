//! `instructions`: outer and inner ones, flattened in the order in which they were executed.

use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_array::builder::{UInt32Builder, UInt64Builder};
use arrow_schema::{ArrowError, DataType, SchemaRef};

use crate::parquet::cells::{Blobs, Cells, KeyFormat, KeyTexts, Lists, list_of};
use crate::parquet::schema::{Column, Storage};
use sluice_stages::transaction::{InnerInstruction, Instruction, Transaction};

/// The columns.
pub(crate) fn columns(keys: KeyFormat) -> Vec<Column> {
    use Storage::{Repeated, Rising};
    let inner = "Position among the inner instructions of that outer one; null for an outer instruction.";
    let height =
        "How deep it was called: 1 for an outer instruction; null for inner ones older than the field.";
    vec![
        super::slot_column("The slot of the block that the instruction is part of."),
        super::transaction_index_column(),
        Column::new("index", DataType::UInt32, Rising, "Position in the transaction, in order of execution."),
        Column::new("outer_index", DataType::UInt32, Rising, "Position of the outer instruction."),
        Column::new("inner_index", DataType::UInt32, Repeated, inner).nullable(),
        Column::new("stack_height", DataType::UInt32, Repeated, height).nullable(),
        Column::new("program_id", keys.key_type(), Repeated, "The program that executes it.").nullable(),
        Column::new("accounts", list_of(keys.key_type()), Repeated, "The accounts handed to it, in order."),
        Column::new("data", DataType::Binary, Repeated, "The data handed to it."),
    ]
}

/// The columns under construction.
pub(crate) struct InstructionRows {
    slot: UInt64Builder,
    transaction_index: UInt32Builder,
    index: UInt32Builder,
    outer_index: UInt32Builder,
    inner_index: UInt32Builder,
    stack_height: UInt32Builder,
    program_id: Cells,
    accounts: Lists,
    account_keys: Cells,
    data: Blobs,
}

impl InstructionRows {
    /// No rows yet.
    pub(crate) fn new(keys: KeyFormat) -> Self {
        Self {
            slot: UInt64Builder::new(),
            transaction_index: UInt32Builder::new(),
            index: UInt32Builder::new(),
            outer_index: UInt32Builder::new(),
            inner_index: UInt32Builder::new(),
            stack_height: UInt32Builder::new(),
            program_id: Cells::keys(keys),
            accounts: Lists::new(),
            account_keys: Cells::keys(keys),
            data: Blobs::new(),
        }
    }

    /// Adds the instructions of a transaction.
    pub(crate) fn push(&mut self, transaction: &mut Transaction, body: &[u8], texts: &mut KeyTexts) {
        // They come sorted; a stable sort of sorted rows is one pass.
        transaction.inner_instructions.sort_by_key(|inner| inner.outer_index);
        let mut row = Row { transaction, body, texts, index: 0 };
        let mut inner = row.transaction.inner_instructions.as_slice();
        for (outer_index, outer) in (0..).zip(&row.transaction.instructions) {
            self.push_outer(&mut row, outer_index, outer);
            let called = inner.iter().take_while(|inner| inner.outer_index == outer_index).count();
            let (called, rest) = inner.split_at(called);
            called.iter().for_each(|inner| self.push_inner(&mut row, inner));
            inner = rest;
        }
        // Calls of instructions that are not there; the chain has none, but what came in goes out.
        inner.iter().for_each(|inner| self.push_inner(&mut row, inner));
    }

    fn push_outer(&mut self, row: &mut Row<'_>, outer_index: u32, outer: &Instruction) {
        self.outer_index.append_value(outer_index);
        self.inner_index.append_null();
        self.stack_height.append_value(1);
        self.push_instruction(row, outer);
    }

    fn push_inner(&mut self, row: &mut Row<'_>, inner: &InnerInstruction) {
        self.outer_index.append_value(inner.outer_index);
        self.inner_index.append_value(inner.inner_index);
        self.stack_height.append_option(inner.instruction.stack_height);
        self.push_instruction(row, &inner.instruction);
    }

    fn push_instruction(&mut self, row: &mut Row<'_>, instruction: &Instruction) {
        self.slot.append_value(row.transaction.slot);
        self.transaction_index.append_value(row.transaction.index);
        self.index.append_value(row.index);
        row.index += 1;
        row.push_key(&mut self.program_id, instruction.program_id_index);
        for &account in instruction.accounts.of(row.body) {
            row.push_account(&mut self.account_keys, account);
        }
        self.accounts.end_row(self.account_keys.len());
        self.data.push(instruction.data.of(row.body));
    }

    /// The rows; what is added next begins another batch.
    pub(crate) fn finish(&mut self, schema: SchemaRef) -> Result<RecordBatch, ArrowError> {
        RecordBatch::try_new(
            schema,
            vec![
                Arc::new(self.slot.finish()),
                Arc::new(self.transaction_index.finish()),
                Arc::new(self.index.finish()),
                Arc::new(self.outer_index.finish()),
                Arc::new(self.inner_index.finish()),
                Arc::new(self.stack_height.finish()),
                self.program_id.finish()?,
                self.accounts.finish(self.account_keys.finish()?)?,
                self.data.finish_binary()?,
            ],
        )
    }
}

struct Row<'a> {
    transaction: &'a Transaction,
    body: &'a [u8],
    texts: &'a mut KeyTexts,
    index: u32,
}

impl Row<'_> {
    fn push_key(&mut self, cells: &mut Cells, index: u32) {
        match self.transaction.account_key(index) {
            Some(place) => cells.push_key(place.array::<32>(self.body), self.texts),
            None => cells.push_null(),
        }
    }

    /// List elements are never null; the chain lets no instruction name an account that the message lacks, so the
    /// all-zero key that stands in is never seen.
    fn push_account(&mut self, cells: &mut Cells, index: u8) {
        match self.transaction.account_key(u32::from(index)) {
            Some(place) => cells.push_key(place.array::<32>(self.body), self.texts),
            None => cells.push_key(&[0; 32], self.texts),
        }
    }
}
