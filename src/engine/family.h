/* engine/family.h: which model has which column family. */
#ifndef ENGINE_FAMILY_H
#define ENGINE_FAMILY_H

/* Column families: numbers are stored on disk and never change meaning. */
enum engine_family {
    ENGINE_FAMILY_DEFAULT = 0,
    ENGINE_FAMILY_WRITE = 1, /* TiKV's write and lock families, as its raw calls see them */
    ENGINE_FAMILY_LOCK = 2,
    ENGINE_FAMILY_TXN_DATA = 3, /* docs/format/txn.md */
    ENGINE_FAMILY_TXN_WRITE = 4,
    ENGINE_FAMILY_TXN_LOCK = 5,
    ENGINE_FAMILY_COUNT = 16,
};

#endif
