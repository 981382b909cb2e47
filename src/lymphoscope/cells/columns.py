"""The per-cell numbers by name: one table from which everything else, the reference page too, is made."""

from __future__ import annotations

from dataclasses import dataclass

MORPHOLOGY_VERSION = 4
"""Raised whenever a number changes its meaning or value, so that cached numbers are measured again."""

EMBEDDING_PREFIX, CONCEPT_PREFIX = "embedding_", "concept_"
"""What the names of numbers that an encoder gives a cell begin with."""


@dataclass(frozen=True)
class Column:
    """One number of a cell: its name (which ends in the unit where it has one), unit and meaning."""

    name: str
    unit: str
    meaning: str

    @property
    def group(self) -> str:
        """Prefix up to the first underscore: nucleus, chromatin, cell, …"""
        return self.name.split("_")[0]

    @property
    def length_power(self) -> int:
        """Power of length in the unit: 2 for areas, 1 for lengths, -1 per length, else 0."""
        return _POWERS.get(self.unit, 0)

    @property
    def name_in_micrometres(self) -> str:
        """The name with µm or µm² in place of pixels."""
        suffix = {2: "_um2", 1: "_um"}.get(self.length_power)
        return self.name.removesuffix("_px") + suffix if suffix else self.name


_POWERS = {"px": 1, "px²": 2, "OD/px": -1, "OD·px²": 2}

RINGS = (
    ("inner", -0.50, -0.25, "inside the nucleus, between half and three quarters of the way to its edge"),
    ("rim", -0.25, 0.00, "the outer quarter of the nucleus"),
    ("near", 0.00, 0.15, "just outside the nucleus"),
    ("middle", 0.15, 0.35, "further out"),
    ("far", 0.35, 0.60, "furthest out"),
)
"""Rings of the colour profile: name, inner and outer edge as distance from the nucleus's edge in units of its
equivalent radius (negative inside), and meaning."""


def _profile() -> tuple[Column, ...]:
    columns = []
    for name, low, high, where in RINGS:
        place = f"in the ring {where} ({low:g} to {high:g} nuclear radii from the edge), whatever lies there"
        columns += [
            Column(f"profile_{name}_density_od", "OD", f"Mean nuclear stain {place}."),
            Column(f"profile_{name}_blueness_od", "OD", f"Mean OD red − OD blue {place}."),
        ]
    return tuple(columns)


COLUMNS: tuple[Column, ...] = (
    Column(
        "segmented",
        "",
        "1 where the cell was found, 0 where not; then every other column is missing.",
    ),
    Column("nucleus_area_px", "px²", "Area of the nucleus, all lobes."),
    Column(
        "nucleus_roundness",
        "",
        "4π · area / perimeter²: 1 for a disc, less for anything else; perimeter by Crofton's formula.",
    ),
    Column("nucleus_solidity", "", "Area / area of the convex hull: 1 when convex."),
    Column(
        "nucleus_eccentricity",
        "",
        "Eccentricity of the ellipse with the same second moments: 0 for a disc, towards 1 when elongated.",
    ),
    Column(
        "nucleus_irregularity", "", "Standard deviation / mean of the outline's distance from the centroid."
    ),
    Column(
        "nucleus_cleft_depth",
        "",
        "Depth of the deepest indentation below the convex hull / equivalent diameter (largest lobe).",
    ),
    Column(
        "nucleus_cleft_count",
        "",
        "Number of indentations deeper than 6 % of the equivalent diameter (largest lobe).",
    ),
    Column("nucleus_lobe_count", "", "Number of parts, separate or joined by a waist."),
    Column(
        "nucleus_offset",
        "",
        "Distance between the centroids of nucleus and cell / equivalent radius of the cell.",
    ),
    Column("nucleus_lab_l", "L*", "Mean lightness of the nucleus after white balance, 0 to 100."),
    Column("nucleus_lab_a", "a*", "Mean green–red value of the nucleus after white balance."),
    Column("nucleus_lab_b", "b*", "Mean blue–yellow value of the nucleus after white balance."),
    Column("nucleus_density_od", "OD", "Mean nuclear stain (OD red + 0.7 OD green) of the nucleus."),
    Column("nucleus_integrated_density_od_px", "OD·px²", "Nuclear stain summed over the nucleus."),
    Column(
        "nucleus_edge_sharpness_od", "OD/px", "Mean gradient of nuclear stain along the nucleus's outline."
    ),
    Column(
        "chromatin_contrast_od",
        "OD",
        "Standard deviation of nuclear stain inside the nucleus, its outermost pixels left out.",
    ),
    Column("chromatin_contrast_ratio", "", "That standard deviation / the mean."),
    Column(
        "chromatin_granularity_1px_od",
        "OD",
        "Root mean square of the finest texture (image − Gaussian of σ = 1 px).",
    ),
    Column("chromatin_granularity_2px_od", "OD", "The same between σ = 1 px and σ = 2 px."),
    Column("chromatin_granularity_4px_od", "OD", "The same between σ = 2 px and σ = 4 px."),
    Column(
        "chromatin_clump_fraction",
        "",
        "Share of the nucleus more than 10 % denser than its surroundings (σ = 4 px).",
    ),
    Column(
        "chromatin_pale_fraction",
        "",
        "Share of the nucleus more than 10 % paler than its surroundings (σ = 4 px).",
    ),
    Column("chromatin_entropy_bits", "bits", "Shannon entropy of nuclear stain in steps of 0.05 OD."),
    Column(
        "chromatin_rim_od", "OD", "Mean nuclear stain of the nucleus's outer third less that of the rest."
    ),
    Column("chromatin_colour_spread_lab", "a*b*", "Spread of colour inside the nucleus: √(var a* + var b*)."),
    Column("cell_area_px", "px²", "Area of the whole cell."),
    Column(
        "cell_nucleus_ratio",
        "",
        "Area of the nucleus / area of the cell (the N:C ratio as a share of the cell), 0 to 1.",
    ),
    Column("cell_roundness", "", "4π · area / perimeter² of the cell."),
    Column("cell_solidity", "", "Area / area of the convex hull of the cell."),
    Column("cell_eccentricity", "", "Eccentricity of the ellipse with the cell's second moments."),
    Column(
        "cell_edge_hairiness",
        "",
        "Perimeter / perimeter after smoothing the outline, less 1: hairs, blebs and frays.",
    ),
    Column("cell_edge_sharpness_od", "OD/px", "Mean gradient of OD green along the cell's outline."),
    Column(
        "cell_focus",
        "",
        "Share of the window's contrast that lies in details finer than σ = 1 px; low when blurred.",
    ),
    Column(
        "cell_on_frame_fraction",
        "",
        "Share of the outline that lies on the frame of the photograph (the cell is cut off).",
    ),
    Column("cytoplasm_area_px", "px²", "Area of the cell without the nucleus."),
    Column("cytoplasm_widest_px", "px", "Greatest distance of the cytoplasm from the nucleus."),
    Column("cytoplasm_lab_l", "L*", "Mean lightness of the cytoplasm after white balance, 0 to 100."),
    Column("cytoplasm_lab_a", "a*", "Mean green–red value of the cytoplasm after white balance."),
    Column("cytoplasm_lab_b", "b*", "Mean blue–yellow value of the cytoplasm after white balance."),
    Column("cytoplasm_density_od", "OD", "Mean nuclear stain of the cytoplasm."),
    Column("cytoplasm_blueness_od", "OD", "Mean OD red − OD blue of the cytoplasm: basophilia."),
    Column(
        "cytoplasm_granularity_1px_od", "OD", "Root mean square of the cytoplasm's finest texture (σ < 1 px)."
    ),
    Column("cytoplasm_granularity_2px_od", "OD", "The same between σ = 1 px and σ = 2 px."),
    Column(
        "cytoplasm_granule_fraction",
        "",
        "Share of the cytoplasm more than 0.06 OD denser than its surroundings (σ = 3 px).",
    ),
    Column(
        "cytoplasm_vacuole_fraction",
        "",
        "Share of the cytoplasm more than 0.06 OD paler than its surroundings (σ = 3 px).",
    ),
    *_profile(),
    Column("neighbours_nucleus_count", "", "Number of other nuclei in the photograph."),
    Column("neighbours_nucleus_fraction", "", "Share of the photograph covered by other nuclei."),
    Column(
        "neighbours_red_cell_fraction",
        "",
        "Share of the photograph covered by other stained matter, mostly red cells.",
    ),
    Column(
        "neighbours_contact_fraction", "", "Share of the cell's outline with stained matter just outside it."
    ),
    Column("background_lab_l", "L*", "Lightness of the empty background as photographed."),
    Column("background_lab_a", "a*", "Green–red value of the empty background as photographed."),
    Column("background_lab_b", "b*", "Blue–yellow value of the empty background as photographed."),
    Column("background_noise_od", "OD", "Spread of the background's OD green from pixel to pixel."),
    Column(
        "background_unevenness_od",
        "OD",
        "Range of the background's OD green between the four quarters of the photograph.",
    ),
    Column(
        "background_red_cell_red_od",
        "OD",
        "Mean OD red of other stained matter, mostly red cells; 0 where there is none.",
    ),
    Column("background_red_cell_green_od", "OD", "Mean OD green of the same."),
    Column("background_red_cell_blue_od", "OD", "Mean OD blue of the same."),
)

MORPHOLOGY_COLUMNS: tuple[str, ...] = tuple(column.name for column in COLUMNS)
"""Names of all per-cell numbers, in order."""

BACKGROUND_COLUMNS: tuple[str, ...] = tuple(c.name for c in COLUMNS if c.group == "background")
"""Colour of background and red cells, noise and lighting: controls that say nothing about the cell."""

CELL_COLUMNS: tuple[str, ...] = tuple(c.name for c in COLUMNS if c.group != "background")
"""Everything but the controls."""
