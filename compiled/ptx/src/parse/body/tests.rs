use super::*;

fn read(text: &str) -> Body<'_> {
    Body::read(Lexer::new(text, 10)).unwrap()
}

fn name(text: &str, scope: u32) -> Operand<'_> {
    Operand::Name(Name { text, scope })
}

#[test]
fn statements_are_read_with_their_operands() {
    let body = read(
        "\n.reg .b32 %r<3>;\n$L1: // a label\n@!%p1 bra $L1;\nld.global.v2.u32 {%r1, %r2}, [%rd1+-8];\n\
         shfl.sync.bfly.b32 %r1|%p1, %r2, 0x1f, -1, 0f3F800000;\nvote.sync.all.pred %p1, !%p2, 1; ret; }",
    );
    assert_eq!(body.labels["$L1"], 0);
    let [branch, load, shuffle, vote, _] = &body.statements[..] else {
        panic!("{:?}", body.statements)
    };
    let p1 = Name { text: "%p1", scope: 0 };
    assert_eq!(
        (branch.guard, branch.line),
        (
            Some(Guard {
                name: p1,
                negated: true
            }),
            13
        )
    );
    assert_eq!(load.operands[0], Operand::Vector(vec![name("%r1", 0), name("%r2", 0)]));
    assert_eq!(load.operands[1], Operand::Address(Box::new(name("%rd1", 0)), -8));
    assert_eq!(shuffle.operands[0], Operand::Pair(Name { text: "%r1", scope: 0 }, p1));
    let numbers = [0x1f, u64::MAX, 0x3f80_0000].map(Operand::Number);
    assert_eq!(shuffle.operands[2..], numbers);
    assert_eq!(vote.operands[1], Operand::Not(Name { text: "%p2", scope: 0 }));
    let declared = body.registers[&Name { text: "%r", scope: 0 }];
    assert_eq!((declared.width, declared.count), (Width::W32, Some(3)));
}

#[test]
fn blocks_of_inline_assembly_have_names_of_their_own() {
    let body = read("{ .reg .b16 lo; mov.b16 lo, %rs1; } { .reg .b16 lo; mov.b16 lo, %rs2; } mov.b16 %rs3, lo; }");
    let first: Vec<_> = body
        .statements
        .iter()
        .map(|statement| statement.operands[0].clone())
        .collect();
    assert_eq!(first, [name("lo", 1), name("lo", 2), name("%rs3", 0)]);
}

#[test]
fn places_know_where_they_were_inlined() {
    let body = read(
        ".loc 1 10 5\n.loc 2 20 5, function_name $L__info_string0, inlined_at 1 10 5\n\
         .loc 3 30 5, function_name $L__info_string1, inlined_at 2 20 5\nret; }",
    );
    let mut at = body.statements[0].location;
    let mut lines = Vec::new();
    while let Some(index) = at {
        lines.push((body.locations[index].file, body.locations[index].line));
        at = body.locations[index].inlined_at;
    }
    assert_eq!(lines, [(3, 30), (2, 20), (1, 10)]);
}

#[test]
fn what_is_not_ptx_is_an_error_with_its_line() {
    let error = |text| Body::read(Lexer::new(text, 1)).unwrap_err();
    assert_eq!(error("\nmov.b32 %r1 %r2; }"), (2, "expected `;`, got `%r2`".to_owned()));
    assert_eq!(
        error("ret;"),
        (1, "expected an instruction, got the end of the file".to_owned())
    );
    assert_eq!(error(".local .b8 x[4]; }"), (1, "unknown directive .local".to_owned()));
}
