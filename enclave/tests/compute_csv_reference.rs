//! CSV through the compute stage against an independent reader, on random tables.

use adyton_enclave::compute::{ComputeError, Limits, Pipeline};
use adyton_shared::error_code::ErrorCode;
use adyton_shared::job::{Destination, FieldPath, Input, Job, Mask, Step};
use csv_core::{ReadFieldResult, Reader};
use proptest::prelude::*;

type Table = Vec<Vec<String>>;

fn run(steps: Vec<Step>, data: &[u8], size: usize) -> Result<Vec<u8>, ErrorCode> {
    let job = Job { version: 1, input: Input::Csv, steps, to: Destination::Parent };
    let mut pipeline = Pipeline::new(&job, Limits { record_bytes: 1 << 20 }).unwrap();
    let mut out = Vec::new();
    for chunk in data.chunks(size) {
        pipeline.push(chunk, &mut out).map_err(ComputeError::code)?;
    }
    pipeline.finish(&mut out).map_err(ComputeError::code)?;
    Ok(out)
}

/// Reads a table with a reader that nobody here wrote.
fn read(mut data: &[u8]) -> Table {
    let mut reader = Reader::new();
    let (mut table, mut row, mut field) = (Vec::new(), Vec::new(), vec![0; 1 << 16]);
    let mut filled = 0;
    loop {
        let (result, taken, written) = reader.read_field(data, &mut field[filled..]);
        data = &data[taken..];
        filled += written;
        match result {
            ReadFieldResult::InputEmpty => {}
            ReadFieldResult::OutputFull => panic!("a field is too long for this test"),
            ReadFieldResult::Field { record_end } => {
                row.push(String::from_utf8(field[..filled].to_vec()).unwrap());
                filled = 0;
                if record_end {
                    table.push(std::mem::take(&mut row));
                }
            }
            ReadFieldResult::End => return table,
        }
    }
}

/// Writes a table; a cell is quoted if it must be or if `quote` says so.
fn write(table: &Table, mut quote: impl Iterator<Item = bool>, ending: &str) -> String {
    let mut cell = |text: &String| {
        if quote.next().unwrap_or_default() || text.is_empty() || text.contains(['"', ',', '\r', '\n']) {
            format!("\"{}\"", text.replace('"', "\"\""))
        } else {
            text.clone()
        }
    };
    let rows = table.iter().map(|row| row.iter().map(&mut cell).collect::<Vec<_>>().join(",") + ending);
    rows.collect()
}

fn masked(text: &str, keep: usize) -> String {
    let count = text.chars().count();
    let stars = if count < 2 * keep { count } else { count - keep };
    "*".repeat(stars) + &text.chars().skip(stars).collect::<String>()
}

fn table() -> impl Strategy<Value = Table> {
    (1..6_usize).prop_flat_map(|columns| {
        let cell = prop_oneof!["[a-z0-9 ]{0,12}", "[\",\r\n;'ä€🙂x]{0,8}", any::<String>()];
        prop::collection::vec(prop::collection::vec(cell, columns), 0..5).prop_map(move |rows| {
            let header = (0..columns).map(|n| format!("column {n}")).collect();
            [vec![header], rows].concat()
        })
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

    #[test]
    fn another_reader_finds_the_selected_and_masked_cells(
        table in table(),
        actions in prop::collection::vec(0..3_u8, 5),
        keep_last in 0..5_u8,
        quote in prop::collection::vec(any::<bool>(), 0..20),
        windows in any::<bool>(),
        size in 1..40_usize,
    ) {
        // 0 drops a column, 1 keeps and 2 masks it; one at least is kept.
        let action = |column: usize| if column == 0 { actions[0].max(1) } else { actions[column] };
        let columns = table[0].len();
        let named = |least: u8| -> Vec<FieldPath> {
            let names = (0..columns).filter(|column| action(*column) >= least);
            names.map(|column| FieldPath::parse(&table[0][column]).unwrap()).collect()
        };
        let mut steps = vec![Step::Select(named(1))];
        if !named(2).is_empty() {
            steps.push(Step::Mask(Mask { fields: named(2), keep_last }));
        }
        let data = write(&table, quote.into_iter().cycle().take(1000), if windows { "\r\n" } else { "\n" });
        let out = run(steps.clone(), data.as_bytes(), size);
        prop_assert_eq!(&run(steps, data.as_bytes(), data.len()), &out);
        let expected: Table = table
            .iter()
            .enumerate()
            .map(|(number, row)| {
                let cells = row.iter().enumerate().filter(|(column, _)| action(*column) > 0);
                cells
                    .map(|(column, cell)| match action(column) {
                        2 if number > 0 => masked(cell, keep_last.into()),
                        _ => cell.clone(),
                    })
                    .collect()
            })
            .collect();
        prop_assert_eq!(read(&out.unwrap()), expected);
    }
}
