"""The text format: what it reads, and what it says about what it cannot read."""

import math

import pytest
from google.protobuf import text_format
from hypothesis import given, settings
from hypothesis import strategies as st

from crnn.proto import pb
from crnn.proto.parser import is_repeated
from crnn.proto.text import MAX_BYTES, PrototxtError, dump, load, parse
from crnn.testing import golden

PROTOTXTS = sorted(
    path for folder in ("layers", "solvers", "tools") for path in golden(folder).rglob("*.prototxt")
)


def layer(text):
    return parse(f"layer {{ {text} }}", pb.NetParameter).message.layer[0]


def problems(text, message_type=pb.NetParameter):
    with pytest.raises(PrototxtError) as error:
        parse(text, message_type, "net.prototxt")
    return error.value.problems


# What it reads


@pytest.mark.parametrize("path", PROTOTXTS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_reads_goldens_as_protobuf_does(path):
    message_type = pb.SolverParameter if "solver" in path.name else pb.NetParameter
    text = path.read_text()
    message = load(path, message_type).message
    assert message == text_format.Parse(text, message_type())
    assert parse(dump(message), message_type).message == message


SCALARS = {
    "TYPE_FLOAT": st.floats(width=32, allow_nan=False),
    "TYPE_DOUBLE": st.floats(allow_nan=False),
    "TYPE_INT32": st.integers(-(1 << 31), (1 << 31) - 1),
    "TYPE_INT64": st.integers(-(1 << 63), (1 << 63) - 1),
    "TYPE_UINT32": st.integers(0, (1 << 32) - 1),
    "TYPE_BOOL": st.booleans(),
    "TYPE_STRING": st.text(st.characters(exclude_categories=["Cs"])),
    "TYPE_BYTES": st.binary(),
}
SCALARS = {getattr(pb.Datum.DESCRIPTOR.fields[0], name): values for name, values in SCALARS.items()}


@st.composite
def filled(draw, descriptor, depth=3):
    """A message with some of its fields set to anything they may hold."""
    message = getattr(pb, descriptor.name)()
    fields = [f for f in descriptor.fields if depth or f.message_type is None]
    chosen = draw(st.lists(st.sampled_from(fields), max_size=4, unique_by=lambda f: f.name)) if fields else []
    for field in chosen + [f for f in fields if descriptor.name == "ClipParameter"]:
        if field.message_type is not None:
            value = filled(field.message_type, depth - 1)
        elif field.enum_type is not None:
            value = st.sampled_from([v.number for v in field.enum_type.values])
        else:
            value = SCALARS[field.type]
        if is_repeated(field):
            getattr(message, field.name).extend(draw(st.lists(value, max_size=3)))
        elif field.message_type is not None:
            getattr(message, field.name).CopyFrom(draw(value))
        else:
            setattr(message, field.name, draw(value))
    return message


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from([pb.NetParameter, pb.SolverParameter, pb.Datum]).flatmap(lambda t: filled(t.DESCRIPTOR))
)
def test_reads_back_what_it_and_protobuf_write(message):
    if not message.IsInitialized():
        return
    styles = {}, {"as_one_line": True}, {"pointy_brackets": True}, {"use_short_repeated_primitives": True}
    for text in (dump(message), *(text_format.MessageToString(message, **style) for style in styles)):
        assert parse(text, type(message)).message == message


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet="layer {}<>[]:;,\"'\\#-+.01aefx_\n\x00é"))
def test_any_text_is_a_message_or_a_prototxt_error(text):
    with_layer = 'layer { name: "a" ' + text
    for garbled in (text, with_layer):
        try:
            parse(garbled, pb.NetParameter)
        except PrototxtError as error:
            assert error.problems


def test_blocks_take_either_bracket_and_an_optional_colon():
    expected = pb.LayerParameter(pooling_param=pb.PoolingParameter(pad=1))
    for text in ("pooling_param { pad: 1 }", "pooling_param: { pad: 1 }", "pooling_param < pad: 1 >"):
        assert layer(text) == expected


def test_fields_may_be_parted_by_commas_and_semicolons():
    assert layer('name: "a", type: "b"; top: "c";') == pb.LayerParameter(name="a", type="b", top=["c"])


def test_lists_of_scalars_and_of_blocks():
    assert layer('top: ["a", "b"] top: [] top: "c" loss_weight: [1, -2.5]').top == ["a", "b", "c"]
    assert len(layer("param: [{ lr_mult: 1 }, < lr_mult: 2 >]").param) == 2


def test_comments_blanks_and_line_ends_of_any_system():
    text = '\ufeff# a comment\r\nname: "net" # another\r\n\tlayer\r\n{\f\v} # the last'
    assert parse(text, pb.NetParameter).message == pb.NetParameter(name="net", layer=[pb.LayerParameter()])


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", 1),
        (".5", 0.5),
        ("5.", 5),
        ("-1.5e+2", -150),
        ("- 2", -2),
        ("3f", 3),
        ("1e-3F", 1e-3),
        ("inf", math.inf),
        ("-Infinity", -math.inf),
        ("1e999", math.inf),
    ],
)
def test_real_numbers(text, value):
    assert layer(f"power_param {{ shift: {text} }}").power_param.shift == pytest.approx(value)


def test_nan():
    assert math.isnan(layer("power_param { shift: NaN }").power_param.shift)


@pytest.mark.parametrize(
    ("text", "value"), [("0x1F", 31), ("017", 15), ("0", 0), ("-2147483648", -(1 << 31))]
)
def test_integers(text, value):
    assert layer(f"softmax_param {{ axis: {text} }}").softmax_param.axis == value


@pytest.mark.parametrize("text", ["true", "True", "t", "1"])
def test_true(text):
    assert layer(f"propagate_down: {text}").propagate_down == [True]


@pytest.mark.parametrize("text", ["false", "False", "f", "0"])
def test_false(text):
    assert layer(f"propagate_down: {text}").propagate_down == [False]


def test_enums_by_name_and_number():
    assert layer("pooling_param { pool: AVE }").pooling_param.pool == pb.PoolingParameter.AVE
    assert layer("pooling_param { pool: 1 }").pooling_param.pool == pb.PoolingParameter.AVE


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('"a" "b"\n\'c\'', "abc"),
        ('"it\'s # no comment"', "it's # no comment"),
        (r'"\t\n\\\"\'\?"', "\t\n\\\"'?"),
        (r'"\101\x42\u00e9\U0001F600"', "ABé😀"),
        (r'"\303\251"', "é"),
        ('"é"', "é"),
    ],
)
def test_strings(text, value):
    assert layer(f"name: {text}").name == value


def test_bytes_hold_anything():
    datum = parse(r'data: "\000\377\x0" "é"', pb.Datum).message
    assert datum.data == b"\x00\xff\x00\xc3\xa9"


# Where values stood


def test_where():
    document = parse(
        'name: "n"\nlayer {\n  top: "a" top: ["b",\n "c"]\n  pooling_param { pad: 1 }\n}', pb.NetParameter
    )
    assert document.where("name") == "<text>:1:1"
    assert document.where("layer", 0) == "<text>:2:1"
    assert document.where("layer", 0, "top", 0) == "<text>:3:3"
    assert document.where("layer", 0, "top", 2) == "<text>:4:2"
    assert document.where("layer", 0, "pooling_param", "pad") == "<text>:5:19"


def test_where_of_what_is_not_stated_is_the_block_around_it():
    document = parse("layer { pooling_param { } }", pb.NetParameter, "a.prototxt")
    assert document.where("layer", 0, "pooling_param", "stride") == "a.prototxt:1:9"
    assert document.where("layer", 0, "include", 0, "phase") == "a.prototxt:1:1"
    assert document.where("state") == "a.prototxt"


# What it says about what it cannot read


def test_all_problems_are_reported_in_the_order_of_the_text():
    text = """name: "net"
layer {
  name: "conv1"
  convolution_param { num_ouput: 96 pad: -1 }
  pooling_param { pool: MEAN }
}
layer { bottom: data }
"""
    with pytest.raises(PrototxtError) as error:
        parse(text, pb.NetParameter, "net.prototxt")
    assert str(error.value).splitlines() == [
        "net.prototxt:4:23: unknown field 'num_ouput' of ConvolutionParameter; did you mean 'num_output'?",
        "net.prototxt:4:42: 'pad' of ConvolutionParameter wants an integer from 0 to 4294967295, got '-1'",
        "net.prototxt:5:25: 'pool' of PoolingParameter wants one of MAX, AVE, STOCHASTIC, got 'MEAN'",
        "net.prototxt:7:17: 'bottom' of LayerParameter wants a string: write \"data\" in quotes",
    ]
    assert [layer.name for layer in error.value.document.message.layer] == ["conv1", ""]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("permute_param { order: 0 }", "a fork of Caffe has it (SSD, weiliu89/caffe)"),
        ("bn_param { bn_mode: LEARN }", "a fork of Caffe has it (SegNet, alexgkendall/caffe-segnet; PSPNet"),
        ("quantization_param { }", "a fork of Caffe has it (Ristretto, pmgysel/caffe; intel/caffe)"),
        ("mat_write_param { prefix: 'a' }", "a fork of Caffe has it (DeepLab v2, xmyqsh/deeplab-v2)"),
        ("convolution_param { hole: 2 }", "a fork of Caffe has it (DeepLab, TheLegendAli/DeepLab-Context)"),
        ("forward_math: FLOAT16", "a fork of Caffe has it (NVIDIA/caffe)"),
        (
            "dropout_ratio: 0.5",
            "unknown field 'dropout_ratio' of LayerParameter; it belongs in dropout_param",
        ),
        ("pooling_param { bottom: 'a' }", "LayerParameter has it: is a '}' missing before it?"),
        ("qwertz: 1", "unknown field 'qwertz' of LayerParameter"),
        ("a" * 10_000, f"unknown field '{'a' * 56} ...' of LayerParameter"),
        ("pooling_param { pool: 'AVE' }", "got 'AVE'; did you mean AVE (no quotes)?"),
        ("pooling_param { pool: 7 }", "wants one of MAX, AVE, STOCHASTIC, got '7'"),
        ("pooling_param { pad: 1.0 }", "wants an integer from 0 to 4294967295, got '1.0'"),
        ("pooling_param { pad: 4294967296 }", "wants an integer from 0 to 4294967295, got '4294967296'"),
        ("pooling_param { pad: 08 }", "got '08'"),
        ("pooling_param { pad: [1] }", "'pad' takes one value, not a list or block"),
        ("pooling_param { pad: 1 pad: 2 }", "'pad' is given twice, first at net.prototxt:1:25"),
        ("pooling_param { } pooling_param { }", "'pooling_param' is given twice, first at net.prototxt:1:9"),
        ("pooling_param: 1", "expected '{' after 'pooling_param', got '1'"),
        ("loss_weight: 1.2.3", "wants a number, got '1.2.3'"),
        ("loss_weight: '1'", "wants a number, got '1'"),
        ("propagate_down: yes", "wants true or false, got 'yes'"),
        ("propagate_down: 2", "wants true or false, got '2'"),
        ("name 'a'", "expected ':' after 'name', got 'a'"),
        ("name: top: 'a'", "'name' has no value"),
        ("name: }", "'name' has no value"),
        ("name: -'a'", "wants a string"),
        ("name: 'a\\\nb'", "the string is not closed on its line"),
        ("pooling_param { pad: " + "9" * 5000 + " }", "wants an integer"),
        ("name: '\\q'", "unknown escape \\q; write \\\\ for \\"),
        ("name: '\\U00110000'", "escape \\U00110000 is out of range"),
        ("name: '\\377'", "holds bytes that are not UTF-8"),
        ("name: 'a\n", "the string is not closed on its line"),
        ("top: ['a' 'b', 'c'", "expected ',' or ']' in a list, got '}'"),
        ("top: ['a',\n name: 'b'", "'[' is not closed before net.prototxt:2:2"),
        ("top: ['a'; 'b']", "expected ',' or ']' in a list, got ';'"),
        ("[caffe.extension]: 1", "expected a field name, got '['"),
        ("clip_param { min: 0 }", "ClipParameter lacks 'max', which it must have"),
        ("pooling_param { pad: 1 >", "'>' does not close '{'"),
    ],
)
def test_each_mistake_is_named(text, says):
    assert any(says in problem for problem in problems(f"layer {{ {text} }}"))


@pytest.mark.parametrize("layers", [1, 3, 500])
def test_a_net_read_as_a_solver_and_a_solver_read_as_a_net(layers):
    net = 'name: "n" debug_info: true\n' + "layer { name: 'a' }\n" * layers
    with pytest.raises(PrototxtError, match=r"^n: this is a net's prototxt, not a solver's: give the solver"):
        parse(net, pb.SolverParameter, "n")
    solver = 'net: "n" base_lr: 1 debug_info: true train_state { level: 1 }\n'
    with pytest.raises(
        PrototxtError, match=r"^s: this is a solver's prototxt, not a net's: give the file that"
    ):
        parse(solver, pb.NetParameter, "s")


def test_a_field_of_a_solver_in_a_net_is_a_mistake_of_the_net():
    assert problems("layer { }\nbase_lr: 1") == ["net.prototxt:2:1: unknown field 'base_lr' of NetParameter"]


def test_a_stray_bracket():
    assert problems("layer { } }") == ["net.prototxt:1:11: '}' closes nothing"]


def test_a_lost_bracket_is_one_problem_at_the_block_that_lacks_it():
    text = "layer {\n  pooling_param {\n    pad: 1\n}\nlayer {\n}\nlayer {\n}\n"
    assert problems(text) == ["net.prototxt:1:7: '{' is not closed before net.prototxt:5:1"]


def test_an_unknown_block_is_stepped_over():
    text = "layer { foo { a: [1, { b: '}' }] < c: 2 > } tpo: 'x' }"
    assert problems(text) == [
        "net.prototxt:1:9: unknown field 'foo' of LayerParameter",
        "net.prototxt:1:45: unknown field 'tpo' of LayerParameter; did you mean 'top'?",
    ]


def test_problems_inside_a_repeated_block_are_found():
    found = problems("layer { pooling_param { } pooling_param { padd: 1 } }")
    assert [problem.split(": ")[1][:15] for problem in found] == ["'pooling_param'", "unknown field '"]


def test_deep_nesting_is_refused_not_a_crash():
    assert any("nest deeper than 100" in problem for problem in problems("a" + "{a" * 100_000))


def test_a_text_of_nothing_but_mistakes_is_given_up():
    found = problems("x: 1 " * 1000)
    assert len(found) == 101
    assert found[-1].endswith("too many problems; the rest was not read")


# Files


def load_error(path, data):
    path.write_bytes(data)
    with pytest.raises(PrototxtError) as error:
        load(path, pb.NetParameter)
    assert str(path) in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"\n<!DOCTYPE html>\n<html>", "an HTML page (download the file itself; on GitHub, the raw link)"),
        (b"\x89HDF\r\n\x1a\n\x00\x00", "an HDF5 file"),
        (b"\x1f\x8b\x08\x00", "a gzip archive (unpack it)"),
        ('name: "a"'.encode("utf-16"), "UTF-16 text (save it as UTF-8)"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "a Git LFS pointer"),
        (
            pb.NetParameter(name="n", layer=[pb.LayerParameter()]).SerializeToString(),
            "a binary net (.caffemodel)",
        ),
        (pb.SolverState(iter=7).SerializeToString(), "a solver state (.solverstate)"),
        (bytes(range(256)), "a binary file"),
    ],
)
def test_another_kind_of_file_is_named(tmp_path, data, says):
    assert f"this is {says}" in load_error(tmp_path / "net.prototxt", data)


def test_an_lmdb_given_as_prototxt_is_named():
    with pytest.raises(PrototxtError, match="the data file of an LMDB"):
        load(golden("tools/raw_color_lmdb") / "data.mdb", pb.NetParameter)


def test_a_huge_file_is_refused(tmp_path):
    assert "larger than 64 MB" in load_error(tmp_path / "net.prototxt", b" " * (MAX_BYTES + 1))


def test_latin_1_is_allowed_in_comments_only(tmp_path):
    path = tmp_path / "net.prototxt"
    path.write_bytes('# café\nname: "n"'.encode("latin-1"))
    assert load(path, pb.NetParameter).message.name == "n"
    assert "'name' of NetParameter holds bytes that are not UTF-8" in load_error(path, b'name: "caf\xe9"')


def test_a_missing_file_is_an_os_error_that_names_it():
    with pytest.raises(OSError, match="nowhere"):
        load("nowhere.prototxt", pb.NetParameter)


def test_text_is_told_from_a_path(tmp_path):
    path = tmp_path / "net.prototxt"
    path.write_text('name: "file"')
    assert load(str(path), pb.NetParameter).message.name == "file"
    assert load('name: "text"\n', pb.NetParameter).message.name == "text"
    assert load("layer {}", pb.NetParameter).name == "<text>"


def test_a_byte_that_is_not_utf8_before_a_brace(tmp_path):
    """protobuf's tables of fields break when asked for such a name (found by make fuzz)."""
    path = tmp_path / "net.prototxt"
    path.write_bytes(b'layer { name: "a" include\xd8{ phase: TRAIN } }\nlayer { name: "b" }\n')
    with pytest.raises(PrototxtError, match=r"net\.prototxt:1:26: "):
        load(path, pb.NetParameter)
