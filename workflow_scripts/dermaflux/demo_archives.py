"""Painted archives in the published layout of each dataset: what the demo and the tests download instead of the real ones.

Layouts and headers are written down here a second time, from the sources and not from the descriptors, so that the
demo tests the descriptors too. The archives hold what real ones hold: images that are too small, turned by EXIF,
transparent, of 16 bits, CMYK, cut off, without a row or without an image, and duplicates within and across datasets,
also across train and test. `planted.json` beside the archives lists these.
"""

import csv
import io
import zipfile
import zlib
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from dermaflux.errors import UserError
from dermaflux.files import fraction, write_json
from dermaflux.painter import lesion_parameters, paint


def _names(text):
    """The column names of a header line."""
    return text.split(",")


ISIC_2019_CLASSES = ("MEL", "NV", "BCC", "AK", "BKL", "DF", "VASC", "SCC", "UNK")
MILK10K_CLASSES = ("AKIEC", "BCC", "BEN_OTH", "BKL", "DF", "INF", "MAL_OTH", "MEL", "NV", "SCCKA", "VASC")
ISIC_2024_METADATA = _names(
    "isic_id,patient_id,age_approx,sex,anatom_site_general,clin_size_long_diam_mm,image_type,tbp_tile_type,tbp_lv_A,"
    "tbp_lv_Aext,tbp_lv_B,tbp_lv_Bext,tbp_lv_C,tbp_lv_Cext,tbp_lv_H,tbp_lv_Hext,tbp_lv_L,tbp_lv_Lext,tbp_lv_areaMM2,"
    "tbp_lv_area_perim_ratio,tbp_lv_color_std_mean,tbp_lv_deltaA,tbp_lv_deltaB,tbp_lv_deltaL,tbp_lv_deltaLB,"
    "tbp_lv_deltaLBnorm,tbp_lv_eccentricity,tbp_lv_location,tbp_lv_location_simple,tbp_lv_minorAxisMM,"
    "tbp_lv_nevi_confidence,tbp_lv_norm_border,tbp_lv_norm_color,tbp_lv_perimeterMM,tbp_lv_radial_color_std_max,"
    "tbp_lv_stdL,tbp_lv_stdLExt,tbp_lv_symm_2axis,tbp_lv_symm_2axis_angle,tbp_lv_x,tbp_lv_y,tbp_lv_z,attribution,"
    "copyright_license"
)
MILK10K_METADATA = _names(
    "lesion_id,image_type,isic_id,attribution,copyright_license,image_manipulation,age_approx,sex,skin_tone_class,site,"
    "MONET_ulceration_crust,MONET_hair,MONET_vasculature_vessels,MONET_erythema,MONET_pigmented,"
    "MONET_gel_water_drop_fluid_dermoscopy_liquid,MONET_skin_markings_pen_ink_purple_pen"
)
PAD_UFES_20_METADATA = _names(
    "patient_id,lesion_id,smoke,drink,background_father,background_mother,age,pesticide,gender,skin_cancer_history,"
    "cancer_history,has_piped_water,has_sewage_system,fitspatrick,region,diameter_1,diameter_2,diagnostic,itch,grew,"
    "hurt,changed,bleed,elevation,img_id,biopsed"
)
HIBA_METADATA = _names(
    "isic_id,attribution,copyright_license,age_approx,anatom_site_general,anatom_site_special,diagnosis_1,diagnosis_2,"
    "diagnosis_3,diagnosis_4,diagnosis_5,diagnosis_confirm_type,image_type,lesion_id,melanocytic,patient_id,sex"
)
ISIC_2020_COLUMNS = _names(
    "image_name,patient_id,lesion_id,sex,age_approx,anatom_site_general_challenge,diagnosis,benign_malignant,target"
)


@dataclass(frozen=True)
class Lesion:
    """A painted lesion: who it is, and how large its picture is."""

    dataset: str
    index: int
    label: str
    width: int
    height: int
    separation: float = 2.4  # see painter.lesion_parameters

    def pixels(self, seed):
        """uint8 [height, width, 3]"""
        parameters = lesion_parameters(self.label, seed, self.dataset, self.index, separation=self.separation)
        return paint(parameters, self.width, self.height)


def _lesions(dataset, count, seed, smallest=132, largest=288, shape=None, separation=2.4):
    """`count` lesions, benign and malignant in turn, of different sizes (px, longer side; or all of `shape`)."""
    lesions = []
    for index in range(count):
        if shape is None:
            short = round(smallest + (largest / 1.25 - smallest) * fraction("side", seed, dataset, index))
            width = round(short * (1, 4 / 3, 1.2, 1.1)[int(4 * fraction("shape", seed, dataset, index))])
            size = (min(width, largest), short)
        else:
            size = shape
        lesions.append(Lesion(dataset, index, ("benign", "malignant")[index % 2], *size, separation))
    return lesions


def _jpeg(pixels, quality=92, **options):
    from PIL import Image

    file = io.BytesIO()
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image.save(file, "JPEG", quality=quality, **options)
    return file.getvalue()


def _png(pixels):
    from PIL import Image

    file = io.BytesIO()
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image.save(file, "PNG", compress_level=1)
    return file.getvalue()


def _turned(pixels):
    """A JPEG whose pixels lie on their side, with the EXIF orientation that puts them upright again."""
    from PIL import Image

    exif = Image.Exif()
    exif[0x0112] = 6
    return _jpeg(np.ascontiguousarray(np.rot90(pixels)), exif=exif)


def _cmyk(pixels):
    from PIL import Image

    return _jpeg(Image.fromarray(pixels).convert("CMYK"))


def _transparent(pixels):
    """An RGBA PNG whose corners are transparent."""
    height, width = pixels.shape[:2]
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    alpha = np.where(np.hypot(x, y) < 1.25, 255, 0).astype(np.uint8)
    return _png(np.dstack([pixels, alpha]))


def _grey_16_bit(pixels):
    grey = pixels.astype(np.float32) @ (0.299, 0.587, 0.114)
    return _png((grey * 257).astype(np.uint16))


def _with_comment(jpeg):
    """The same JPEG with a comment: other bytes, the same pixels."""
    text = b"saved again"
    return jpeg[:2] + b"\xff\xfe" + (len(text) + 2).to_bytes(2, "big") + text + jpeg[2:]


def _squashed(pixels, side):
    import cv2

    return cv2.resize(pixels, (side, side), interpolation=cv2.INTER_AREA)


def _zip(members):
    """Bytes of a zip of `members` (dict of name -> bytes), the same on every run."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, data in members.items():
            archive.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), data)
    return file.getvalue()


def _csv(header, rows, delimiter=","):
    """Bytes of a table; `rows` are dicts, whose missing keys become empty cells."""
    text = io.StringIO()
    writer = csv.DictWriter(text, header, restval="", delimiter=delimiter, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def _isic_id(dataset, index):
    """An id that looks like the ISIC Archive's; the same number never serves two datasets."""
    return f"ISIC_{zlib.crc32(dataset.encode()) % 900 + 100}{index:04}"


class _Plan:
    """What a dataset's archives will hold, and what is planted among it."""

    def __init__(self, dataset, seed):
        self.dataset, self.seed, self.planted = dataset, seed, []

    def plant(self, kind, *source_ids, others=()):
        """Note that something of `kind` is planted: own source ids, then image ids of other datasets."""
        ids = [f"{self.dataset}/{source_id}" for source_id in source_ids] + list(others)
        self.planted.append({"kind": kind, "image_ids": ids})


# Lesions that other datasets hold copies of. Sizes are theirs, so that a copy can be made without the original's archive.
def _first_test(images):
    """The index from which on the images of the three datasets with a test split are test images."""
    return images - 13 * images // 30


def _isic_2019_train(seed, images):
    return _lesions("isic_2019", images, seed)[: _first_test(images)]


def _isic_2019_test(seed, images):
    return _lesions("isic_2019", images, seed)[_first_test(images) :]


def _kaggle_1(seed, images):
    return _lesions("kaggle_1", images, seed, shape=(300, 300))


def _med_node(plan, images):
    lesions = _lesions("med_node", images, plan.seed)
    members = {}
    for lesion in lesions:
        folder = "melanoma" if lesion.label == "malignant" else "naevus"
        source_id, pixels = f"{folder}/{lesion.index + 1}", lesion.pixels(plan.seed)
        data = _jpeg(pixels)
        if lesion.index == 2:
            plan.plant("exif_rotated", source_id)
            data = _turned(pixels)
        if lesion.index == 5:
            plan.plant("truncated", source_id)
            data = data[: len(data) // 2]
        members[f"complete_mednode_dataset/{source_id}.jpg"] = data
    return {"complete_mednode_dataset.zip": _zip(members)}


def _hiba_jpeg(seed, images, index):
    return _jpeg(_lesions("hiba", images, seed)[index].pixels(seed))


def _hiba(plan, images):
    members, rows = {}, []
    for lesion in _lesions("hiba", images, plan.seed):
        id = _isic_id("hiba", lesion.index)
        members[f"images/{id}.jpg"] = _hiba_jpeg(plan.seed, images, lesion.index)
        if lesion.index == 4:
            plan.plant("cmyk", id)
            members[f"images/{id}.jpg"] = _cmyk(lesion.pixels(plan.seed))
        diagnosis = "Indeterminate" if lesion.index == 6 else lesion.label.capitalize()
        rows.append(
            {
                "isic_id": id,
                "attribution": "painted",
                "copyright_license": "CC-BY",
                "diagnosis_1": diagnosis,
                "image_type": "clinical: close-up" if lesion.index % 3 == 0 else "dermoscopic",
                "lesion_id": f"IL_{lesion.index:07}",
                "patient_id": f"IP_{lesion.index // 2:07}",
            }
        )
    plan.plant("ambiguous_label", _isic_id("hiba", 6))
    members = {"metadata.csv": _csv(HIBA_METADATA, rows), "attribution.txt": b"painted\n", **members}
    return {"hiba-skin-lesions.zip": _zip(members)}


def _derm12345(plan, images):
    lesions = _lesions("derm12345", images, plan.seed)
    lesions[1] = replace(lesions[1], width=600, height=450)
    test = range(images - images // 6, images)
    copied = _isic_2019_test(plan.seed, images)[0]
    folders = {"train_part_1": {}, "train_part_2": {}, "test": {}}
    rows = {"train": [], "test": []}
    for lesion in lesions:
        split = "test" if lesion.index in test else "train"
        code = {"benign": ("jb", "sk"), "malignant": ("mel", "bcc")}[lesion.label][lesion.index // 2 % 2]
        code = "ak" if lesion.index == 8 else code
        id = f"{code}_{lesion.index:05}"
        data = _jpeg(lesion.pixels(plan.seed))
        if lesion.index == 10 + (copied.label == "malignant"):
            plan.plant("exact", id, others=[f"isic_2019/{_isic_2019_id(images, copied.index)}"])
            data = _jpeg(copied.pixels(plan.seed))
        folder = f"train_part_{lesion.index % 2 + 1}" if split == "train" else "test"
        folders[folder][f"derm12345_{folder}/{code}/{id}.jpg"] = data
        rows[split].append(
            {
                "image_id": id,
                "patient_id": f"P{lesion.index // 2:04}",
                "label": code,
                "malignancy": lesion.label,
                "sub_class": "",
                "main_class_1": "",
            }
        )
    plan.plant("ambiguous_label", "ak_00008")
    header = ["image_id", "patient_id", "label", "malignancy", "sub_class", "main_class_1"]
    tables = {f"derm12345_metadata_{split}.tab": _csv(header, rows[split], "\t") for split in rows}
    return {f"derm12345_{folder}.zip": _zip(members) for folder, members in folders.items()} | tables


def _isic_2019_id(images, index):
    return _isic_id("isic_2019", index) + ("_downsampled" if index == 3 else "")


def _isic_2019(plan, images):
    archives = {}
    for split, lesions in (("Training", _isic_2019_train), ("Test", _isic_2019_test)):
        members, truth, metadata = {f"ISIC_2019_{split}_Input/ATTRIBUTION.txt": b"painted\n"}, [], []
        for lesion in lesions(plan.seed, images):
            id, index = _isic_2019_id(images, lesion.index), lesion.index
            code = {"benign": ("NV", "BKL"), "malignant": ("MEL", "BCC")}[lesion.label][index // 2 % 2]
            if index == 4 or index == images - 2:
                code = "AK"
                plan.plant("ambiguous_label", id)
            if index == images - 4:
                code = "UNK"
                plan.plant("no_label", id)
            pixels = lesion.pixels(plan.seed)
            if index == 6:
                plan.plant("too_small", id)
                pixels = _squashed(pixels, 96)
            members[f"ISIC_2019_{split}_Input/{id}.jpg"] = _jpeg(pixels)
            truth.append({"image": id} | {name: str(float(name == code)) for name in ISIC_2019_CLASSES})
            # 8 and 10 show the same lesion; every fifth row has no lesion id
            lesion_id = "" if index % 5 == 4 else f"HAM_{(8 if index == 10 else index):07}"
            metadata.append(
                {"image": id, "age_approx": 50, "anatom_site_general": "", "lesion_id": lesion_id, "sex": ""}
            )
        header = ["image", "age_approx", "anatom_site_general", "lesion_id", "sex"]
        if split == "Test":  # which lesions the test images show was never published
            header.remove("lesion_id")
            metadata = [{name: row[name] for name in header} for row in metadata]
        archives[f"ISIC_2019_{split}_Input.zip"] = _zip(members)
        archives[f"ISIC_2019_{split}_GroundTruth.csv"] = _csv(["image", *ISIC_2019_CLASSES], truth)
        archives[f"ISIC_2019_{split}_Metadata.csv"] = _csv(header, metadata)
    plan.plant("same_lesion", _isic_2019_id(images, 8), _isic_2019_id(images, 10))
    return archives


def _isic_2020(plan, images):
    lesions = _lesions("isic_2020", images, plan.seed)
    copied = _isic_2019_train(plan.seed, images)[1]
    members, rows = {}, []
    for lesion in lesions:
        id, pixels = _isic_id("isic_2020", lesion.index), lesion.pixels(plan.seed)
        if lesion.index == 7:  # the official list names it as a copy of image 5
            pixels = lesions[5].pixels(plan.seed)
        data = _jpeg(pixels)
        if lesion.index == 11:
            plan.plant("same_pixels", id, others=[f"isic_2019/{_isic_2019_id(images, copied.index)}"])
            data = _with_comment(_jpeg(copied.pixels(plan.seed)))
        members[f"train/{id}.jpg"] = data
        malignant = lesion.label == "malignant"
        rows.append(
            {
                "image_name": id,
                "patient_id": f"IP_{lesion.index // 2:07}",
                "lesion_id": f"IL_{lesion.index:07}",
                "diagnosis": "melanoma" if malignant else ("unknown", "nevus")[lesion.index // 2 % 2],
                "benign_malignant": lesion.label,
                "target": int(malignant),
            }
        )
    stray = _isic_id("isic_2020", images)
    members[f"train/{stray}.jpg"] = _jpeg(_lesions("isic_2020", images + 1, plan.seed)[images].pixels(plan.seed))
    plan.plant("no_metadata", stray)
    pair = [_isic_id("isic_2020", index) for index in (5, 7)]
    plan.plant("listed_duplicate", pair[1], pair[0])
    return {
        "ISIC_2020_Training_JPEG.zip": _zip(members),
        "ISIC_2020_Training_GroundTruth_v2.csv": _csv(ISIC_2020_COLUMNS, rows),
        "ISIC_2020_Training_Duplicates.csv": "\r\n".join(["image_name_1,image_name_2", ",".join(pair)]).encode(),
    }


def _milk10k(plan, images):
    members, truth, metadata = {}, [], []
    for number in range(images // 2):
        label = ("benign", "malignant")[number % 2]
        lesion_id = f"IL_{number + 5000:07}"
        code = {"benign": ("NV", "BKL"), "malignant": ("BCC", "MEL")}[label][number // 2 % 2]
        code = "AKIEC" if number == 6 else code
        truth.append({"lesion_id": lesion_id} | {name: str(float(name == code)) for name in MILK10K_CLASSES})
        # the same lesion twice, seen otherwise: another picture size, other light and hairs
        close_up, dermoscopic = (f"{_isic_id('milk10k', 2 * number + i)}" for i in (0, 1))
        for id, kind, index in (
            (close_up, "clinical: close-up", 2 * number),
            (dermoscopic, "dermoscopic", 2 * number + 1),
        ):
            lesion = replace(_lesions("milk10k", images, plan.seed)[index], label=label)
            data = _jpeg(lesion.pixels(plan.seed))
            if index == 6:  # number 3: malignant, as hiba's image 3
                plan.plant("exact", id, others=[f"hiba/{_isic_id('hiba', 3)}"])
                data = _hiba_jpeg(plan.seed, images, 3)
            members[f"MILK10k_Training_Input/{lesion_id}/{id}.jpg"] = data
            metadata.append(
                {
                    "lesion_id": lesion_id,
                    "image_type": kind,
                    "isic_id": id,
                    "attribution": "painted",
                    "copyright_license": "CC-BY-NC",
                    "skin_tone_class": 3,
                }
            )
            if code == "AKIEC":
                plan.plant("ambiguous_label", id)
        plan.plant("same_lesion", close_up, dermoscopic)
    return {
        "MILK10k_Training_Input.zip": _zip(members),
        "MILK10k_Training_Metadata.csv": _csv(MILK10K_METADATA, metadata),
        "MILK10k_Training_GroundTruth.csv": _csv(["lesion_id", *MILK10K_CLASSES], truth),
    }


def _pad_ufes_20(plan, images):
    parts, rows = {1: {}, 2: {}, 3: {}}, []
    for lesion in _lesions("pad_ufes_20", images, plan.seed):
        index = lesion.index
        code = {"benign": ("NEV", "SEK"), "malignant": ("BCC", "MEL")}[lesion.label][index // 2 % 2]
        code = "ACK" if index == 8 else code
        id = f"PAT_{index // 2 + 1}_{index + 100}_{index + 500}.png"
        pixels = lesion.pixels(plan.seed)
        if index == 12:
            plan.plant("no_image", id)
        else:
            if index == 2:
                plan.plant("transparent", id)
            part = index % 3 + 1
            parts[part][f"imgs_part_{part}/{id}"] = _transparent(pixels) if index == 2 else _png(pixels)
        if index == 8:
            plan.plant("ambiguous_label", id)
        rows.append(
            {
                "patient_id": f"PAT_{index // 2 + 1}",
                "lesion_id": index + 100,
                "fitspatrick": "" if index % 3 == 0 else "2.0",
                "diagnostic": code,
                "img_id": id,
                "biopsed": lesion.label == "malignant",
            }
        )
    inner = {f"zr7vgbcyr2-1/images/imgs_part_{part}.zip": _zip(members) for part, members in parts.items()}
    table = {"zr7vgbcyr2-1/metadata.csv": _csv(PAD_UFES_20_METADATA, rows)}
    return {"zr7vgbcyr2-1.zip": _zip(table | inner)}


def _central_square(pixels):
    side = min(pixels.shape[:2])
    top, left = ((length - side) // 2 for length in pixels.shape[:2])
    return pixels[top : top + side, left : left + side]


def _without_edges(pixels):
    """2 % off each edge."""
    top, left = (round(length * 0.02) for length in pixels.shape[:2])
    return pixels[top:-top, left:-left]


# what a copy shows of its original, before it is squashed to a square
CUTS = {"resized": lambda pixels: pixels, "central_square": _central_square, "cropped": _without_edges}


def _kaggle(plan, images, name, side, folder, capitals, copies):
    """A Kaggle set: class folders in split folders, all squares. copies: index -> (kind of copy, image id, lesion)."""
    members = {}
    for lesion in _lesions(name, images, plan.seed, shape=(side, side)):
        split = "test" if lesion.index >= _first_test(images) else "train"
        pixels, label = lesion.pixels(plan.seed), lesion.label
        number = f"melanoma_{lesion.index}" if name == "kaggle_1" else str(lesion.index)
        original = copies.get(lesion.index)
        if original:
            label = original[2].label
        source_id = f"{split}/{label.capitalize() if capitals else label}/{number}"
        if original:
            kind, original_id, its = original
            plan.plant(kind, source_id, others=[original_id])
            pixels = _squashed(CUTS[kind](its.pixels(plan.seed)), side)
        members[f"{folder}{source_id}.jpg"] = _jpeg(pixels)
    return _zip(members)


def _paint_kaggle_1(plan, images):
    train, test = _isic_2019_train(plan.seed, images), _isic_2019_test(plan.seed, images)
    copies = {
        0: ("resized", f"isic_2019/{_isic_2019_id(images, test[2].index)}", test[2]),  # train, of a test image
        1: ("resized", f"isic_2019/{_isic_2019_id(images, train[7].index)}", train[7]),  # train, of a training image
        images - 2: (
            "resized",
            f"isic_2019/{_isic_2019_id(images, train[12].index)}",
            train[12],
        ),  # test, of a training image
    }
    archive = _kaggle(plan, images, "kaggle_1", 300, "melanoma_cancer_dataset/", False, copies)
    return {"melanoma-skin-cancer-dataset-of-10000-images.zip": archive}


def _paint_kaggle_2(plan, images):
    train, test = _isic_2019_train(plan.seed, images), _isic_2019_test(plan.seed, images)
    tested = _kaggle_1(plan.seed, images)[images - 3]
    copies = {
        2: (
            "resized",
            f"kaggle_1/test/{tested.label}/melanoma_{tested.index}",
            tested,
        ),  # train, of another set's test image
        3: ("resized", f"isic_2019/{_isic_2019_id(images, train[9].index)}", train[9]),  # train, of a training image
        4: ("central_square", f"isic_2019/{_isic_2019_id(images, train[14].index)}", train[14]),  # of a training image
        5: ("cropped", f"isic_2019/{_isic_2019_id(images, test[3].index)}", test[3]),  # train, of a test image
        images - 1: (
            "resized",
            f"isic_2019/{_isic_2019_id(images, train[13].index)}",
            train[13],
        ),  # test, of a training image
    }
    return {"melanoma-cancer-dataset.zip": _kaggle(plan, images, "kaggle_2", 224, "", True, copies)}


def _ddi(plan, images):
    members, rows = {}, []
    for lesion in _lesions("ddi", images, plan.seed):
        id, pixels = f"{lesion.index + 1:06}.png", lesion.pixels(plan.seed)
        data = _png(pixels)
        if lesion.index == 2:
            plan.plant("16_bit", id)
            data = _grey_16_bit(pixels)
        if lesion.index == 4:
            plan.plant("undecodable", id)
            data = b"<html><body>503 Service Unavailable</body></html>"
        if lesion.index == 6:
            plan.plant("too_small", id)
            data = _png(_squashed(pixels, 100))
        members[id] = data
        rows.append(
            {
                "": lesion.index,
                "DDI_ID": lesion.index + 1,
                "DDI_file": id,
                "skin_tone": (12, 34, 56)[lesion.index % 3],
                "malignant": lesion.label == "malignant",
                "disease": "melanoma" if lesion.label == "malignant" else "melanocytic-nevi",
            }
        )
    table = _csv(["", "DDI_ID", "DDI_file", "skin_tone", "malignant", "disease"], rows)
    return {"ddidiversedermatologyimages.zip": _zip({"ddi_metadata.csv": table, **members})}


def _isic_2024(plan, images):
    members, truth, supplement, metadata = {}, [], [], []
    for lesion in _lesions("isic_2024", images, plan.seed, smallest=116, largest=210):
        id = _isic_id("isic_2024", lesion.index)
        members[f"ISIC_2024_Training_Input/{id}.jpg"] = _jpeg(lesion.pixels(plan.seed))
        if min(lesion.width, lesion.height) < 128:
            plan.plant("too_small", id)
        malignant = lesion.label == "malignant"
        truth.append({"isic_id": id, "malignant": int(malignant)})
        supplement.append(
            {"isic_id": id, "iddx_1": "Indeterminate" if lesion.index == 6 else lesion.label.capitalize()}
        )
        metadata.append(
            {
                "isic_id": id,
                "patient_id": f"IP_{lesion.index // 2:07}",
                "image_type": "TBP tile: close-up",
                "tbp_tile_type": "3D: XP",
                "attribution": "painted",
                "copyright_license": "CC-BY",
            }
        )
    plan.plant("ambiguous_label", _isic_id("isic_2024", 6))
    members = {"ISIC_2024_Training_Input/metadata.csv": _csv(ISIC_2024_METADATA, metadata), **members}
    header = "isic_id,mel_thick_mm,lesion_id,iddx_full,iddx_1,iddx_2,iddx_3,iddx_4,iddx_5,mel_mitotic_index"
    return {
        "ISIC_2024_Training_Input.zip": _zip(members),
        "ISIC_2024_Training_GroundTruth.csv": _csv(["isic_id", "malignant"], truth),
        "ISIC_2024_Training_Supplement.csv": _csv(header.split(","), supplement),
    }


def _derm_t2im(plan, images):
    members = {}
    for lesion in _lesions("derm_t2im", images, plan.seed, shape=(192, 192), separation=1.2):
        name = f"{lesion.label}_{lesion.index:05}-{1589873476 + lesion.index}.png"
        members[f"Dataset-6k/{lesion.label.capitalize()}/{name}"] = _png(lesion.pixels(plan.seed))
    return {"Dataset-6k.zip": _zip(members)}


def _dermaflux_released(plan, images):
    """In folders called after the labels: a guess, as nobody here has seen the published layout."""
    members = {}
    for lesion in _lesions("dermaflux_released", images, plan.seed, shape=(192, 192)):
        members[f"{lesion.label}/{lesion.index:05}.jpg"] = _jpeg(lesion.pixels(plan.seed))
    return {"DermaFlux_synthetic_dataset.zip": _zip(members)}


PAINTERS = {
    "med_node": _med_node,
    "hiba": _hiba,
    "derm12345": _derm12345,
    "isic_2019": _isic_2019,
    "isic_2020": _isic_2020,
    "milk10k": _milk10k,
    "pad_ufes_20": _pad_ufes_20,
    "kaggle_1": _paint_kaggle_1,
    "kaggle_2": _paint_kaggle_2,
    "ddi": _ddi,
    "isic_2024": _isic_2024,
    "derm_t2im": _derm_t2im,
    "dermaflux_released": _dermaflux_released,
}


def paint_archives(dataset, folder, images, seed):
    """Paint a dataset's archives into `folder`, in the published layout, the same bytes on every run.

    Beside them `planted.json`: a list of {"kind", "image_ids"}. Kinds of duplicates (the copy's image_id first, then
    the original's): exact (the same bytes), same_pixels (other bytes), resized (squashed to a square), central_square (cut
    to it), cropped (a little off each edge), listed_duplicate, same_lesion (two pictures of one lesion). Kinds of awkward images that are kept: exif_rotated, cmyk, transparent,
    16_bit; that are dropped, for the reason of that name: too_small, truncated, undecodable, no_image, no_metadata,
    no_label, ambiguous_label.

    Args:
        dataset: one of PAINTERS.
        folder: where to; made where it does not exist.
        images: int, at least 24: about so many are painted.
        seed: int.

    Raises:
        UserError: no such dataset, or too few images for all that is planted.
    """
    if dataset not in PAINTERS:
        raise UserError(f"paint: no archives can be painted for {dataset!r}, only for {', '.join(PAINTERS)}")
    if images < 24:
        raise UserError(f"paint.images: {images} are too few, at least 24 are needed for all kinds of images")
    plan, folder = _Plan(dataset, seed), Path(folder)
    archives = PAINTERS[dataset](plan, images)
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in archives.items():
        (folder / name).write_bytes(data)
    write_json(folder / "planted.json", plan.planted)
