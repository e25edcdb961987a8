/*
 * engine/rocksdb/library.h: librocksdb, loaded when the first store of it is opened.
 *
 * It is large, and its start alone costs megabytes and milliseconds. So neither kvs-server nor
 * libkvs is linked with it: who does not use this engine does not pay for it, and need not have it.
 * Files of this folder call its functions by their own names, which stand for the pointers in
 * rocksdb_library; a function that is used must stand in the list.
 */
#ifndef ENGINE_ROCKSDB_LIBRARY_H
#define ENGINE_ROCKSDB_LIBRARY_H

#include <rocksdb/c.h>

/* clang-format off */
#define ROCKSDB_FUNCTIONS(X) \
    X(rocksdb_block_based_options_create) \
    X(rocksdb_block_based_options_destroy) \
    X(rocksdb_block_based_options_set_block_cache) \
    X(rocksdb_block_based_options_set_cache_index_and_filter_blocks) \
    X(rocksdb_block_based_options_set_cache_index_and_filter_blocks_with_high_priority) \
    X(rocksdb_block_based_options_set_filter_policy) \
    X(rocksdb_block_based_options_set_format_version) \
    X(rocksdb_block_based_options_set_pin_l0_filter_and_index_blocks_in_cache) \
    X(rocksdb_cache_create_lru) \
    X(rocksdb_cache_destroy) \
    X(rocksdb_cache_get_usage) \
    X(rocksdb_checkpoint_create) \
    X(rocksdb_checkpoint_object_create) \
    X(rocksdb_checkpoint_object_destroy) \
    X(rocksdb_close) \
    X(rocksdb_compact_range) \
    X(rocksdb_compactionfilter_create) \
    X(rocksdb_compactionfilter_destroy) \
    X(rocksdb_create_iterator) \
    X(rocksdb_create_snapshot) \
    X(rocksdb_disable_manual_compaction) \
    X(rocksdb_filterpolicy_create_bloom_full) \
    X(rocksdb_flush) \
    X(rocksdb_flush_wal) \
    X(rocksdb_flushoptions_create) \
    X(rocksdb_flushoptions_destroy) \
    X(rocksdb_free) \
    X(rocksdb_get_pinned) \
    X(rocksdb_iter_destroy) \
    X(rocksdb_iter_get_error) \
    X(rocksdb_iter_key) \
    X(rocksdb_iter_next) \
    X(rocksdb_iter_prev) \
    X(rocksdb_iter_seek_to_first) \
    X(rocksdb_iter_seek_to_last) \
    X(rocksdb_iter_valid) \
    X(rocksdb_iter_value) \
    X(rocksdb_open) \
    X(rocksdb_options_create) \
    X(rocksdb_options_destroy) \
    X(rocksdb_options_set_block_based_table_factory) \
    X(rocksdb_options_set_compaction_filter) \
    X(rocksdb_options_set_compression) \
    X(rocksdb_options_set_create_if_missing) \
    X(rocksdb_options_set_info_log_level) \
    X(rocksdb_options_set_keep_log_file_num) \
    X(rocksdb_options_set_level_compaction_dynamic_level_bytes) \
    X(rocksdb_options_set_max_background_jobs) \
    X(rocksdb_options_set_max_log_file_size) \
    X(rocksdb_options_set_max_open_files) \
    X(rocksdb_options_set_paranoid_checks) \
    X(rocksdb_options_set_stats_dump_period_sec) \
    X(rocksdb_options_set_wal_recovery_mode) \
    X(rocksdb_options_set_write_buffer_size) \
    X(rocksdb_pinnableslice_destroy) \
    X(rocksdb_pinnableslice_value) \
    X(rocksdb_property_int) \
    X(rocksdb_readoptions_create) \
    X(rocksdb_readoptions_destroy) \
    X(rocksdb_readoptions_set_iterate_lower_bound) \
    X(rocksdb_readoptions_set_iterate_upper_bound) \
    X(rocksdb_readoptions_set_read_tier) \
    X(rocksdb_readoptions_set_snapshot) \
    X(rocksdb_release_snapshot) \
    X(rocksdb_write) \
    X(rocksdb_writebatch_count) \
    X(rocksdb_writebatch_create) \
    X(rocksdb_writebatch_delete_range) \
    X(rocksdb_writebatch_deletev) \
    X(rocksdb_writebatch_destroy) \
    X(rocksdb_writebatch_pop_save_point) \
    X(rocksdb_writebatch_putv) \
    X(rocksdb_writebatch_rollback_to_save_point) \
    X(rocksdb_writebatch_set_save_point) \
    X(rocksdb_writeoptions_create) \
    X(rocksdb_writeoptions_destroy) \
    X(rocksdb_writeoptions_set_sync)
/* clang-format on */

struct rocksdb_library {
#define X(name) __typeof__(name) *name;
    ROCKSDB_FUNCTIONS(X)
#undef X
};

/* Set once for the process, like the library itself; never changed after. */
extern struct rocksdb_library rocksdb_library;

/* 0, or UNSUPPORTED and why: it is not there, or lacks a function. Blocks; any thread. */
int rocksdb_library_load(const char **ret_why);

#ifndef ROCKSDB_LIBRARY_OWN_NAMES
/* clang-format off */
#define rocksdb_block_based_options_create (*rocksdb_library.rocksdb_block_based_options_create)
#define rocksdb_block_based_options_destroy (*rocksdb_library.rocksdb_block_based_options_destroy)
#define rocksdb_block_based_options_set_block_cache \
    (*rocksdb_library.rocksdb_block_based_options_set_block_cache)
#define rocksdb_block_based_options_set_cache_index_and_filter_blocks \
    (*rocksdb_library.rocksdb_block_based_options_set_cache_index_and_filter_blocks)
#define rocksdb_block_based_options_set_cache_index_and_filter_blocks_with_high_priority \
    (*rocksdb_library                                        \
          .rocksdb_block_based_options_set_cache_index_and_filter_blocks_with_high_priority)
#define rocksdb_block_based_options_set_filter_policy \
    (*rocksdb_library.rocksdb_block_based_options_set_filter_policy)
#define rocksdb_block_based_options_set_format_version \
    (*rocksdb_library.rocksdb_block_based_options_set_format_version)
#define rocksdb_block_based_options_set_pin_l0_filter_and_index_blocks_in_cache \
    (*rocksdb_library.rocksdb_block_based_options_set_pin_l0_filter_and_index_blocks_in_cache)
#define rocksdb_cache_create_lru (*rocksdb_library.rocksdb_cache_create_lru)
#define rocksdb_cache_destroy (*rocksdb_library.rocksdb_cache_destroy)
#define rocksdb_cache_get_usage (*rocksdb_library.rocksdb_cache_get_usage)
#define rocksdb_checkpoint_create (*rocksdb_library.rocksdb_checkpoint_create)
#define rocksdb_checkpoint_object_create (*rocksdb_library.rocksdb_checkpoint_object_create)
#define rocksdb_checkpoint_object_destroy (*rocksdb_library.rocksdb_checkpoint_object_destroy)
#define rocksdb_close (*rocksdb_library.rocksdb_close)
#define rocksdb_compact_range (*rocksdb_library.rocksdb_compact_range)
#define rocksdb_compactionfilter_create (*rocksdb_library.rocksdb_compactionfilter_create)
#define rocksdb_compactionfilter_destroy (*rocksdb_library.rocksdb_compactionfilter_destroy)
#define rocksdb_create_iterator (*rocksdb_library.rocksdb_create_iterator)
#define rocksdb_create_snapshot (*rocksdb_library.rocksdb_create_snapshot)
#define rocksdb_disable_manual_compaction \
    (*rocksdb_library.rocksdb_disable_manual_compaction)
#define rocksdb_filterpolicy_create_bloom_full \
    (*rocksdb_library.rocksdb_filterpolicy_create_bloom_full)
#define rocksdb_flush (*rocksdb_library.rocksdb_flush)
#define rocksdb_flush_wal (*rocksdb_library.rocksdb_flush_wal)
#define rocksdb_flushoptions_create (*rocksdb_library.rocksdb_flushoptions_create)
#define rocksdb_flushoptions_destroy (*rocksdb_library.rocksdb_flushoptions_destroy)
#define rocksdb_free (*rocksdb_library.rocksdb_free)
#define rocksdb_get_pinned (*rocksdb_library.rocksdb_get_pinned)
#define rocksdb_iter_destroy (*rocksdb_library.rocksdb_iter_destroy)
#define rocksdb_iter_get_error (*rocksdb_library.rocksdb_iter_get_error)
#define rocksdb_iter_key (*rocksdb_library.rocksdb_iter_key)
#define rocksdb_iter_next (*rocksdb_library.rocksdb_iter_next)
#define rocksdb_iter_prev (*rocksdb_library.rocksdb_iter_prev)
#define rocksdb_iter_seek_to_first (*rocksdb_library.rocksdb_iter_seek_to_first)
#define rocksdb_iter_seek_to_last (*rocksdb_library.rocksdb_iter_seek_to_last)
#define rocksdb_iter_valid (*rocksdb_library.rocksdb_iter_valid)
#define rocksdb_iter_value (*rocksdb_library.rocksdb_iter_value)
#define rocksdb_open (*rocksdb_library.rocksdb_open)
#define rocksdb_options_create (*rocksdb_library.rocksdb_options_create)
#define rocksdb_options_destroy (*rocksdb_library.rocksdb_options_destroy)
#define rocksdb_options_set_block_based_table_factory \
    (*rocksdb_library.rocksdb_options_set_block_based_table_factory)
#define rocksdb_options_set_compaction_filter \
    (*rocksdb_library.rocksdb_options_set_compaction_filter)
#define rocksdb_options_set_compression (*rocksdb_library.rocksdb_options_set_compression)
#define rocksdb_options_set_create_if_missing \
    (*rocksdb_library.rocksdb_options_set_create_if_missing)
#define rocksdb_options_set_info_log_level (*rocksdb_library.rocksdb_options_set_info_log_level)
#define rocksdb_options_set_keep_log_file_num \
    (*rocksdb_library.rocksdb_options_set_keep_log_file_num)
#define rocksdb_options_set_level_compaction_dynamic_level_bytes \
    (*rocksdb_library.rocksdb_options_set_level_compaction_dynamic_level_bytes)
#define rocksdb_options_set_max_background_jobs \
    (*rocksdb_library.rocksdb_options_set_max_background_jobs)
#define rocksdb_options_set_max_log_file_size \
    (*rocksdb_library.rocksdb_options_set_max_log_file_size)
#define rocksdb_options_set_max_open_files (*rocksdb_library.rocksdb_options_set_max_open_files)
#define rocksdb_options_set_paranoid_checks (*rocksdb_library.rocksdb_options_set_paranoid_checks)
#define rocksdb_options_set_stats_dump_period_sec \
    (*rocksdb_library.rocksdb_options_set_stats_dump_period_sec)
#define rocksdb_options_set_wal_recovery_mode \
    (*rocksdb_library.rocksdb_options_set_wal_recovery_mode)
#define rocksdb_options_set_write_buffer_size \
    (*rocksdb_library.rocksdb_options_set_write_buffer_size)
#define rocksdb_pinnableslice_destroy (*rocksdb_library.rocksdb_pinnableslice_destroy)
#define rocksdb_pinnableslice_value (*rocksdb_library.rocksdb_pinnableslice_value)
#define rocksdb_property_int (*rocksdb_library.rocksdb_property_int)
#define rocksdb_readoptions_create (*rocksdb_library.rocksdb_readoptions_create)
#define rocksdb_readoptions_destroy (*rocksdb_library.rocksdb_readoptions_destroy)
#define rocksdb_readoptions_set_iterate_lower_bound \
    (*rocksdb_library.rocksdb_readoptions_set_iterate_lower_bound)
#define rocksdb_readoptions_set_iterate_upper_bound \
    (*rocksdb_library.rocksdb_readoptions_set_iterate_upper_bound)
#define rocksdb_readoptions_set_read_tier (*rocksdb_library.rocksdb_readoptions_set_read_tier)
#define rocksdb_readoptions_set_snapshot (*rocksdb_library.rocksdb_readoptions_set_snapshot)
#define rocksdb_release_snapshot (*rocksdb_library.rocksdb_release_snapshot)
#define rocksdb_write (*rocksdb_library.rocksdb_write)
#define rocksdb_writebatch_count (*rocksdb_library.rocksdb_writebatch_count)
#define rocksdb_writebatch_create (*rocksdb_library.rocksdb_writebatch_create)
#define rocksdb_writebatch_delete_range (*rocksdb_library.rocksdb_writebatch_delete_range)
#define rocksdb_writebatch_deletev (*rocksdb_library.rocksdb_writebatch_deletev)
#define rocksdb_writebatch_destroy (*rocksdb_library.rocksdb_writebatch_destroy)
#define rocksdb_writebatch_pop_save_point (*rocksdb_library.rocksdb_writebatch_pop_save_point)
#define rocksdb_writebatch_putv (*rocksdb_library.rocksdb_writebatch_putv)
#define rocksdb_writebatch_rollback_to_save_point \
    (*rocksdb_library.rocksdb_writebatch_rollback_to_save_point)
#define rocksdb_writebatch_set_save_point (*rocksdb_library.rocksdb_writebatch_set_save_point)
#define rocksdb_writeoptions_create (*rocksdb_library.rocksdb_writeoptions_create)
#define rocksdb_writeoptions_destroy (*rocksdb_library.rocksdb_writeoptions_destroy)
#define rocksdb_writeoptions_set_sync (*rocksdb_library.rocksdb_writeoptions_set_sync)
/* clang-format on */
#endif

#endif
