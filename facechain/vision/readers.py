"""Every face reader and every other tool of this folder, by name; listing them loads nothing heavy.

A factory takes `path`, which turns a pack's id and one of its files into the place where that file lies.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from facechain.protocols import BodyReader, DepthReader, FaceReader, Guard, Landmarker, Matter, Parser

if TYPE_CHECKING:
    from facechain.vision.age import AgeNet

Where: TypeAlias = Callable[[str, str], Path]

_YUNET = ("yunet", "face_detection_yunet_2023mar.onnx")


def _yunet_sface(path: Where) -> FaceReader:
    from facechain.vision.yunet_sface import YunetSface

    return YunetSface(path(*_YUNET), path("sface", "face_recognition_sface_2021dec.onnx"))


def _dlib(path: Where) -> FaceReader:
    from facechain.vision.dlib_reader import DlibReader

    return DlibReader(
        path(*_YUNET),
        path("dlib", "shape_predictor_5_face_landmarks.dat"),
        path("dlib", "dlib_face_recognition_resnet_model_v1.dat"),
    )


def _auraface(path: Where) -> FaceReader:
    from facechain.vision.insightface_reader import YunetArcface

    return YunetArcface(path(*_YUNET), path("auraface", "glintr100.onnx"), "auraface_v1")


def _w600k_mbf(path: Where) -> FaceReader:
    from facechain.vision.insightface_reader import ScrfdArcface

    return ScrfdArcface(path("w600k_mbf", "scrfd_500m_bnkps.onnx"), path("w600k_mbf", "w600k_mbf.onnx"))


def _insightface(pack: str, recogniser: str, unit_norm: bool = True) -> Callable[[Where], FaceReader]:
    def make(path: Where) -> FaceReader:
        from facechain.vision.insightface_reader import InsightfaceReader

        return InsightfaceReader(path(pack, f"{recogniser}.onnx").parent, recogniser, unit_norm)

    return make


def _arcface(pack: str, scrfd: str, recogniser: str, unit_norm: bool = True) -> Callable[[Where], FaceReader]:
    """An InsightFace pack's own files, without its package."""

    def make(path: Where) -> FaceReader:
        from facechain.vision.insightface_reader import ScrfdArcface

        return ScrfdArcface(path(pack, f"{scrfd}.onnx"), path(pack, f"{recogniser}.onnx"), unit_norm)

    return make


def _face_landmarker(path: Where) -> Landmarker:
    from facechain.vision.landmarker import Landmarker as FaceLandmarker

    return FaceLandmarker(path("landmarker", "face_landmarker.task"))


def _selfie(path: Where) -> Parser:
    from facechain.vision.parser import SelfieParser

    return SelfieParser(path("parser", "selfie_multiclass_256x256.tflite"))


def _modnet(path: Where) -> Matter:
    from facechain.vision.modnet import Modnet

    return Modnet(path("modnet", "modnet.onnx"))


def _open_nsfw(path: Where) -> Guard:
    from facechain.vision.nsfw import OpenNsfw

    return OpenNsfw(path("open_nsfw", "open-nsfw.onnx"))


def _age(path: Where) -> AgeNet:
    from facechain.vision.age import AgeNet

    return AgeNet(path("age", "age-v1.onnx"))


def _blazepose(path: Where) -> BodyReader:
    from facechain.vision.body import BodyPose

    return BodyPose(path("body", "pose_detection.tflite"), path("body", "pose_landmark_full.tflite"))


def _depth_anything(path: Where) -> DepthReader:
    from facechain.vision.depth import DepthAnything

    return DepthAnything(path("depth", "model.onnx"))


READERS: dict[str, Callable[[Where], FaceReader]] = {
    "yunet_sface": _yunet_sface,  # the default
    "dlib": _dlib,  # the judge
    "auraface": _auraface,
    "w600k_mbf": _w600k_mbf,  # non-commercial; all below are
    "antelopev2": _arcface("antelopev2", "scrfd_10g_bnkps", "glintr100"),
    "buffalo_l": _arcface("buffalo_l", "det_10g", "w600k_r50"),
    "buffalo_s": _insightface("buffalo_s", "w600k_mbf"),
    # The same with vectors of their own length, as some identity engines were trained on.
    "antelopev2_raw": _arcface("antelopev2", "scrfd_10g_bnkps", "glintr100", unit_norm=False),
    "buffalo_l_raw": _arcface("buffalo_l", "det_10g", "w600k_r50", unit_norm=False),
    "arc2face": _arcface("arc2face", "scrfd_10g_bnkps", "arcface"),
}
# The pack each one's recogniser lies in.
PACKS: dict[str, str] = {
    "yunet_sface": "sface",
    "dlib": "dlib",
    "auraface": "auraface",
    "w600k_mbf": "w600k_mbf",
    "antelopev2": "antelopev2",
    "buffalo_l": "buffalo_l",
}
LANDMARKERS: dict[str, Callable[[Where], Landmarker]] = {"face_landmarker": _face_landmarker}
PARSERS: dict[str, Callable[[Where], Parser]] = {"selfie_multiclass": _selfie}
MATTERS: dict[str, Callable[[Where], Matter]] = {"modnet": _modnet}
GUARDS: dict[str, Callable[[Where], Guard]] = {"open_nsfw": _open_nsfw}
BODIES: dict[str, Callable[[Where], BodyReader]] = {"blazepose": _blazepose}
DEPTHS: dict[str, Callable[[Where], DepthReader]] = {"depth_anything": _depth_anything}
AGES: dict[str, Callable[[Where], AgeNet]] = {"dlib_age": _age}
