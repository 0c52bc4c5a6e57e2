"""Products as fast C: those of the same operands have one packed matrix, and their sums start packed.

What runs before the loop for small batches is for large ones the first part of a product in the loop.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from gategen.backends.c_fast_arrays import FastArrays
from gategen.backends.c_pass import ALL, ONCE, STEP, NodeWriter
from gategen.backends.c_text import offset, product
from gategen.calculus.ir import Contract, Kind, Product, Value
from gategen.calculus.schedule import Choice


@dataclass
class Merge:
    """A product of which the first part may run before the loop, for all steps at once.

    Attributes:
        whole: All of it.
        met: The number of operands that may be met before the loop.
        group: The products that it shares packed weights with, as a number.
    """

    whole: Contract
    met: int
    group: int = -1


@dataclass
class ProductWriter(NodeWriter):
    """Writes products; those of the same operands have one packed matrix and are one call.

    Attributes:
        arrays: The arrays of this pass.
        merges: Products with a part before the loop, by the identities of both parts.
        packs: Declarations of packed weights.
        choices: Why products are packed so, and where they run.
        work: The multiply-adds of one row in each group of products.
        planes: Declarations of past states in planes of their own.
        packing: Calls that pack weights.
        late_packing: Calls that pack derived parameters.
        groups: The names of the packed weights of groups of products.
    """

    arrays: FastArrays
    merges: dict[int, Merge] = field(default_factory=dict)
    packs: list[str] = field(default_factory=list)
    choices: list[Choice] = field(default_factory=list)
    work: list[str] = field(default_factory=list)
    planes: list[str] = field(default_factory=list)
    packing: list[str] = field(default_factory=list)
    late_packing: list[str] = field(default_factory=list)
    groups: dict[tuple[str, int], str] = field(default_factory=dict)

    def signature(self, node: Contract, often: str) -> tuple[object, ...]:
        """What products must have in common to be one call."""
        merge = self.merges.get(id(node))
        if merge is not None and often == ALL:
            return (merge.group,)
        return (
            node.target.width,
            tuple(part.operand.name for part in self._whole(node).products),
            merge.met if merge else 0,
            self._is_fresh(node),
            node.target.name in self.optional,
        )

    def _whole(self, node: Contract) -> Contract:
        """A product with the part that may run before the loop and the one that runs inside."""
        return self.merges[id(node)].whole if id(node) in self.merges else node

    def _is_fresh(self, node: Contract) -> bool:
        return id(node) in self.merges or node.target.name not in self.done

    def product(self, nodes: Sequence[Contract], often: str) -> list[str]:
        """One call for products of the same operands, which have one packed matrix."""
        arrays, ours, first = self.arrays, self.arrays.ours, nodes[0]
        merge, fresh = self.merges.get(id(first)), self._is_fresh(first)
        weights, packing = self._weights(nodes, often)
        parts = (first if often == ALL else self._whole(first)).products
        texts = [self._sum_text(node if often == ALL else self._whole(node), fresh) for node in nodes]
        lines = [f"/* {text} */" for text in texts]
        low = ours["low"] if often == ALL else "0"
        rows = {ONCE: "1", ALL: f"{ours['high']} - {low}", STEP: ours["rows"]}[often]
        lines += [line for part in parts for line in self._delayed(part.operand, often)]
        if often == ONCE:
            lines += packing
        else:
            derived = any(
                value.kind is Kind.DERIVED for node in nodes for value in _timeless(self._whole(node))
            )
            (self.late_packing if derived else self.packing).extend(packing)
        operands, targets = [], []
        for part in parts:
            row = arrays.stride(part.operand.width)
            start = offset(self._operand(part.operand, often), low, row)
            operands.append(f"{{{start}, {row}, 1, {self._depth(part)}}}")
        for node in nodes:
            targets.append(offset(self._array(node.target, often), low, arrays.stride(node.target.width)))
            if not fresh:
                width = arrays.width(node.target.width)
                addends = [arrays.base[addend.name] for addend in node.addends]
                lines += [self.call("add", rows, width, addend, targets[-1]) for addend in addends]
        begin, skip = ("1" if fresh else "0"), "0"
        alone = merge is not None and often == STEP and merge.met == len(parts)
        if merge is not None and often == STEP and not alone:
            begin, skip = f"!{ours['hoisted']}", f"{ours['hoisted']} ? {merge.met} : 0"
        threads = (f"{ours['t']} % 2", ours["place"], ours["crew"]) if often == STEP else ("0", "0", "1")
        far = arrays.far(first.target) if often == STEP else "1" if often == ALL else "0"
        head = (rows, f"&{weights}", begin, skip, str(len(parts)), ours["of"], ours["into"], far)
        call = self.call("product", *head, *threads)
        block = [
            f"const gg_operand {ours['of']}[] = {{{', '.join(operands)}}};",
            f"real *const {ours['into']}[] = {{{', '.join(targets)}}};",
            call,
        ]
        if first.target.name in self.optional:
            block[-1:] = [f"if ({self._array(first.target, often)}) {{", f"    {call}", "}"]
        opening = f"if (!{ours['hoisted']}) {{" if alone else "{"
        return [*lines, opening, *(f"    {line}" for line in block), "}"]

    def _depth(self, part: Product) -> str:
        """The elements of the operand of a product."""
        rows, columns = part.weight.shape
        return self.arrays.width(rows if part.transposed else part.block.size if part.block else columns)

    def _operand(self, value: Value, often: str) -> str:
        if often == ALL and value.kind is Kind.PAST:
            return self.arrays.base[f"all {value.name}"]
        return self._array(value, often)

    def _delayed(self, value: Value, often: str) -> list[str]:
        """A past state of all steps in rows of its own, once."""
        arrays, ours, key = self.arrays, self.arrays.ours, f"all {value.name}"
        if often != ALL or value.kind is not Kind.PAST or key in arrays.base:
            return []
        name = arrays.base[key] = arrays.new(f"{value.name}_all")
        state = self.program.pasts[value.name][0].state
        self.planes.append(arrays.take(name, arrays.plane_size(value)))
        head = (ours["low"], ours["high"], ours["T"], ours["B"], arrays.width(value.width))
        source = (arrays.base[state.name], arrays.first(value))
        return [self.call("delay", *head, arrays.shift(value), *source, name)]

    def _weights(self, nodes: Sequence[Contract], often: str) -> tuple[str, list[str]]:
        """The name of the packed weights of a group of products, and the calls that pack them, if new."""
        first = self._whole(nodes[0])
        merge = self.merges.get(id(nodes[0]))
        key = ("merged", merge.group) if merge else ("alone", id(nodes[0]))
        if key in self.groups:
            return self.groups[key], []
        arrays = self.arrays
        name = self.groups[key] = arrays.new(f"weights_{len(self.groups) + 1}")
        width = arrays.width(first.target.width)
        depths = [self._depth(part) for part in first.products]
        sizes = (str(len(nodes)), width, _total(depths))
        self.work.append(product(sizes[0], width, sizes[2]))
        self._note(nodes, first, merge)
        count = arrays.count(name, f"gg_packed({', '.join(sizes)})")
        self.routines.update(("weights", "tile"))
        self.packs.append(
            f"const gg_weights {name} = {{{', '.join(sizes)}, gg_take({self.rest()}, {count})}};"
        )
        fresh = self._is_fresh(nodes[0])
        # What is computed once is computed by one thread.
        threads = "0, 1" if often == ONCE else f"{arrays.ours['rank']}, {arrays.ours['size']}"
        lines: list[str] = []
        for i, node in enumerate(map(self._whole, nodes)):
            lines += self._pack(f"&{name}, {i}", node, depths, fresh, threads)
        return name, lines

    def _note(self, nodes: Sequence[Contract], first: Contract, merge: Merge | None) -> None:
        """Record why these products are packed so, and where they run."""
        operands = " and ".join(part.operand.shown for part in first.products)
        made = ", ".join(node.target.name for node in nodes)
        if len(nodes) > 1:
            why = "one packed matrix: what they read is read once for all"
            self.choices.append(Choice(f"pack {made} from {operands}", "fast C", why))
        if merge is not None:
            early = " and ".join(part.operand.shown for part in first.products[: merge.met])
            why = "rows stay in the cache; for fewer it is hoisted: weights are read once for all steps"
            self.choices.append(Choice(f"meet {early} in the step that makes {made}", "fast C, B >= 4", why))

    def _pack(self, into: str, node: Contract, depths: Sequence[str], fresh: bool, threads: str) -> list[str]:
        """The calls that pack what one target is made of."""
        arrays = self.arrays
        addends = [arrays.base[addend.name] for addend in node.addends] if fresh else []
        calls = [f"gg_pack_start({into}, {addends.pop(0) if addends else 'NULL'}, {threads});"]
        calls += [self.call("pack_addend", into, addend, threads) for addend in addends]
        for index, part in enumerate(node.products):
            behind = _total(depths[:index])
            columns = arrays.width(part.weight.shape[1])
            start = arrays.width(part.block.start) if part.block else "0"
            matrix = offset(arrays.base[part.weight.name], start)
            steps = f"1, {columns}" if part.transposed else f"{columns}, 1"
            calls.append(f"gg_pack({into}, {behind}, {depths[index]}, {matrix}, {steps}, {threads});")
        return calls


def _total(depths: Sequence[str]) -> str:
    """A sum, with equal summands as a product."""
    counts = Counter(depths)
    return " + ".join(product(str(count), depth) for depth, count in counts.items()) or "0"


def _timeless(node: Contract) -> list[Value]:
    return [*node.addends, *(part.weight for part in node.products)]
