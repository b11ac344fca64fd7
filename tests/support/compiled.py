"""Triton's kernels of a training step, compiled for a GPU that need not be here: a line of JSON for each.

python -m tests.support.compiled, outside Triton's interpreter, which reads kernels as Python and compiles nothing.
"""

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import triton
import triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from usae.training.step.kernels import adding, choosing, gathering

HOPPER = GPUTarget("cuda", 90, 32)
PTXAS = Path(triton.__file__).parent / "backends/nvidia/bin/ptxas"
TILE = {"SLOTS": gathering.SLOTS, "COLUMNS": gathering.COLUMNS}


def kernels():
    """Name, function, types of its arguments, constants and warps, as launched at the paper's sizes."""
    for columns, dense in ((6144, False), (6144, True), (choosing.MOST_COLUMNS, False)):
        block = triton.next_power_of_2(columns)
        sizes = {"COUNT": 32, "INTEGER": tl.int32, "BITS": 31, "BLOCK": block, "CHUNK": choosing.CHUNK}
        types = {"pre": "*fp32", "indices": "*fp32" if dense else "*i64", "values": "*fp32", "stride": "i32"}
        given = types | {"columns": "i32"}, sizes | {"DENSE": dense}
        warps = min(max(block // choosing.COLUMNS_A_WARP, 4), 32)
        yield f"choose {columns}{' dense' * dense}", choosing._choose, *given, warps
    numbers = {"stride": "i32", "width": "i32"}
    for dictionary in ("*fp32", "*bf16"):
        codes = {"indices": "*i64", "values": "*fp32", "dictionary": dictionary, "decoded": "*fp32"}
        yield f"decode {dictionary[1:]}", gathering._decode, codes | numbers, TILE | {"COUNT": 32}, 4
    slopes = {"indices": "*i64", "dictionary": "*fp32", "slope": "*fp32", "gradients": "*fp32"}
    yield "code gradients", gathering._code_gradients, slopes | numbers, TILE | {"COUNT": 32}, 4
    groups = dict.fromkeys(("order", "starts", "pieces", "owners"), "*i64")
    sums = dict.fromkeys(("values", "rows", "added"), "*fp32") | numbers | {"concepts": "i32"}
    yield "add pieces", adding._add_pieces, groups | sums, TILE | {"CODES": 32, "PIECE": adding.PIECE}, 4
    total = {"pieces": "*i64", "added": "*fp32", "total": "*fp32", "width": "i32"}
    yield "add concepts", adding._add_concepts, total, TILE, 4


def compiled(function, types, sizes, warps):
    """Bytes of registers that are spilled into memory, registers of a thread, and bytes of shared memory."""
    names = function.arg_names
    signature = {name: types.get(name, "constexpr") for name in names}
    constants = {(names.index(name),): value for name, value in sizes.items()}
    source = ASTSource(fn=function, signature=signature, constexprs=constants)
    kernel = triton.compile(source, target=HOPPER, options={"num_warps": warps})
    with tempfile.NamedTemporaryFile("w", suffix=".ptx") as file:
        file.write(kernel.asm["ptx"])
        file.flush()
        command = [PTXAS, "-v", "--gpu-name=sm_90a", file.name, "-o", "/dev/null"]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    spilled = sum(map(int, re.findall(r"(\d+) bytes spill", said)))
    return {"spilled": spilled, "registers": int(re.search(r"Used (\d+) registers", said)[1]), "warps": warps,
            "shared": kernel.metadata.shared}  # fmt: skip


if __name__ == "__main__":
    for name, *kernel in kernels():
        sys.stdout.write(json.dumps({"kernel": name, **compiled(*kernel)}) + "\n")
