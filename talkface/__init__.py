__version__ = "0.1.0"

_HOMES = dict(
    core='TalkfaceError asset load_checkpoint save_checkpoint preset',
    media='Clip read_clip read_audio read_image',
    audio_features='acoustic_features',
    timeline='PH2I PhonemeTimeline',
    phonemes='recognize',
    head_pose='FaceTrack',
    faces='analyze',
    fomm='KeyPoints KPDetector OcclusionAwareGenerator',
    avct='AVCT',
    sync='SyncNet',
    head_motion='HeadMotionPredictor',
    motion_transfer='relative_motion',
    animate='Animator',
)  # module -> its names that `from talkface import ...` finds too
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names.split()}
__all__ = ['__version__', *_HOME_OF]


def __getattr__(name):
    "A public name, from its module; nothing is imported before it is asked for."
    if name not in _HOME_OF:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    from importlib import import_module

    value = getattr(import_module(f'{__name__}.{_HOME_OF[name]}'), name)
    globals()[name] = value
    return value


def __dir__():
    return sorted({*globals(), *__all__})
