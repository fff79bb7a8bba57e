"""Which key of BiaPy is which of ours: tables for :mod:`napari_ssl_pretrain.spec.biapy_yaml`."""

from __future__ import annotations

GROUPS = frozenset(
    {"PROBLEM", "DATA", "MODEL", "TRAIN", "TEST", "SYSTEM", "AUGMENTOR", "LOSS", "PATHS", "LOG"}
)

ARCHITECTURES = {
    "mae": "mae_vit",
    "unet": "unet",
    "resunet": "residual_unet",
    "attention_unet": "attention_unet",
}
NEAREST_NETWORK = "residual_unet"
LOSSES = {"MAE": "l1", "MSE": "mse", "CHARBONNIER": "charbonnier"}
NORMALIZATIONS = {
    "zero_mean_unit_variance": "zscore",
    "div": "divide",
    "scale_range": "minmax",
    "custom": "custom",
}
NORMS = {"in": "instance", "none": "none"}

PLAIN = {
    "PROBLEM.SELF_SUPERVISED.PRETEXT_TASK": "pretext.task",
    "PROBLEM.SELF_SUPERVISED.NOISE": "pretext.noise",
    "PROBLEM.SELF_SUPERVISED.RESIZING_FACTOR": "pretext.resizing_factor",
    "DATA.VAL.SPLIT_TRAIN": "data.validation_fraction",
    "MODEL.FEATURE_MAPS": "backbone.features_per_stage",
    "MODEL.VIT_TOKEN_SIZE": "pretext.token_size",
    "MODEL.MAE_MASK_TYPE": "pretext.mask_type",
    "MODEL.MAE_MASK_RATIO": "pretext.mask_ratio",
    "MODEL.VIT_EMBED_DIM": "backbone.embed_dim",
    "MODEL.VIT_NUM_LAYERS": "backbone.depth",
    "MODEL.VIT_NUM_HEADS": "backbone.num_heads",
    "MODEL.VIT_MLP_RATIO": "backbone.mlp_ratio",
    "MODEL.MAE_DEC_HIDDEN_SIZE": "backbone.decoder_embed_dim",
    "MODEL.MAE_DEC_NUM_LAYERS": "backbone.decoder_depth",
    "MODEL.MAE_DEC_NUM_HEADS": "backbone.decoder_num_heads",
    "TRAIN.EPOCHS": "training.epochs",
    "TRAIN.BATCH_SIZE": "training.batch_size",
    "TRAIN.LR": "training.learning_rate",
    "TRAIN.W_DECAY": "training.weight_decay",
    "TRAIN.GRADIENT_CLIP_NORM": "training.gradient_clip",
    "AUGMENTOR.ENABLE": "training.augment",
    "SYSTEM.SEED": "training.seed",
    "SYSTEM.DEVICE": "compute.device",
}
"""BiaPy keys whose values mean the same here; a list of one counts as its entry."""

AUTOMATIC = frozenset(
    {
        "TRAIN.ENABLE",
        "TEST.LOAD_GT",
        "DATA.TEST.LOAD_GT",
        "TEST.ENABLE",
        "DATA.VAL.FROM_TRAIN",
        "DATA.VAL.RANDOM",
        "DATA.TRAIN.IN_MEMORY",
        "DATA.VAL.IN_MEMORY",
        "DATA.TEST.IN_MEMORY",
        "DATA.EXTRACT_RANDOM_PATCH",
        "DATA.REFLECT_TO_COMPLETE_SHAPE",
        "DATA.TRAIN.EXTRACT_RANDOM_PATCH",
        "AUGMENTOR.VFLIP",
        "AUGMENTOR.HFLIP",
        "AUGMENTOR.ZFLIP",
        "AUGMENTOR.RANDOM_ROT",
        "MODEL.SOURCE",
        "SYSTEM.NUM_CPUS",
        "TEST.REDUCE_MEMORY",
    }
)
"""BiaPy keys that need no setting here: the program does what they ask for by itself."""

ON_UNLESS_OFF = frozenset(
    {
        "AUGMENTOR.AUG_SAMPLES",
        "AUGMENTOR.DRAW_GRID",
        "AUGMENTOR.SHUFFLE_TRAIN_DATA_EACH_EPOCH",
        "DATA.EXTRACT_RANDOM_PATCH",
        "DATA.REFLECT_TO_COMPLETE_SHAPE",
        "DATA.TEST.CHECK_DATA",
        "DATA.TRAIN.CHECK_DATA",
        "DATA.TRAIN.EXTRACT_RANDOM_PATCH",
        "DATA.VAL.DIST_EVAL",
        "DATA.VAL.RANDOM",
        "SYSTEM.PIN_MEM",
        "TEST.SAVE_MODEL_RAW_OUTPUT",
    }
)
"""What is on here, or in BiaPy unless it is turned off: to turn it off has no counterpart."""

DIFFERENT_DEFAULTS = {
    "TRAIN.EPOCHS": "360 epochs",
    "TRAIN.BATCH_SIZE": "2 patches a step",
    "TRAIN.LR": "a learning rate of 1e-4",
    "DATA.PATCH_SIZE": "patches of 256 x 256",
}
MASKING_DEFAULTS = {
    "MODEL.VIT_TOKEN_SIZE": "tokens of 16",
    "MODEL.MAE_MASK_TYPE": "a grid mask",
    "MODEL.MAE_MASK_RATIO": "half of the tokens hidden",
    "MODEL.VIT_EMBED_DIM": "a ViT-Base encoder",
}
