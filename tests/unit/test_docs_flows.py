"""The code on docs/how-to/flows.md runs and gives what the page says."""

from docs_blocks import blocks


def test_the_block_gives_what_the_page_says(capsys):
    (block,) = (each for each in blocks("docs/how-to/flows.md") if each.language == "python")
    names = {}
    exec(compile(block.text, str(block), "exec"), names)
    central, plain = names["distances"]
    assert round(central, 1) == 0.2
    assert round(plain, 1) == 1.3
    rounded = [round(names[name], 3) for name in ("measured", "predicted", "alone")]
    assert f"{rounded[0]}, {rounded[1]}, and {rounded[2]}" == "0.468, 0.471, and 0.386"
    assert abs(float(names["seen"][-1].sharpness[0]) - 5) < 0.01
    assert capsys.readouterr().out
