#include "tests/support/faulty_disk.h"

#include <sqlite3.h>
#include <unistd.h>

#include <csignal>
#include <map>

namespace equisweep {
namespace {

DiskFault disk_fault = DiskFault::none;
std::int64_t fault_at = 0, operations = 0;

void die() {
  ::kill(::getpid(), SIGKILL);
  ::pause();
}

/// What SQLite is told of the next operation, or SQLITE_OK if it is to be done.
int verdict(int io_error, bool can_tear = false) {
  ++operations;
  const bool here = operations == fault_at;
  if (here && (disk_fault == DiskFault::kill || (disk_fault == DiskFault::torn && !can_tear))) die();
  if (disk_fault == DiskFault::full && operations >= fault_at) return SQLITE_FULL;
  if (disk_fault == DiskFault::io && here) return io_error;
  return SQLITE_OK;
}

/// The methods of a kind of file, ours and the system's; a file points at ours.
struct Methods {
  sqlite3_io_methods ours;
  const sqlite3_io_methods* system;
};

const sqlite3_io_methods& system_methods(sqlite3_file* file) {
  return *reinterpret_cast<const Methods*>(file->pMethods)->system;
}

int write(sqlite3_file* file, const void* data, int count, sqlite3_int64 offset) {
  if (const int code = verdict(SQLITE_IOERR_WRITE, true); code != SQLITE_OK) return code;
  if (disk_fault == DiskFault::torn && operations == fault_at) {
    system_methods(file).xWrite(file, data, count / 2, offset);
    die();
  }
  return system_methods(file).xWrite(file, data, count, offset);
}

int sync(sqlite3_file* file, int flags) {
  if (const int code = verdict(SQLITE_IOERR_FSYNC); code != SQLITE_OK) return code;
  return system_methods(file).xSync(file, flags);
}

int truncate(sqlite3_file* file, sqlite3_int64 size) {
  if (const int code = verdict(SQLITE_IOERR_TRUNCATE); code != SQLITE_OK) return code;
  return system_methods(file).xTruncate(file, size);
}

sqlite3_vfs* system_vfs = nullptr;
sqlite3_vfs our_vfs;

int open(sqlite3_vfs*, const char* name, sqlite3_file* file, int flags, int* out_flags) {
  const int code = system_vfs->xOpen(system_vfs, name, file, flags, out_flags);
  if (file->pMethods == nullptr) return code;
  static std::map<const sqlite3_io_methods*, Methods> all;
  Methods& methods = all[file->pMethods];
  methods = {*file->pMethods, file->pMethods};
  methods.ours.xWrite = write;
  methods.ours.xSync = sync;
  methods.ours.xTruncate = truncate;
  file->pMethods = &methods.ours;
  return code;
}

int remove(sqlite3_vfs*, const char* name, int sync_folder) {
  if (const int code = verdict(SQLITE_IOERR_DELETE); code != SQLITE_OK) return code;
  return system_vfs->xDelete(system_vfs, name, sync_folder);
}

}  // namespace

void set_disk_fault(DiskFault fault, std::int64_t at) {
  if (system_vfs == nullptr) {
    system_vfs = sqlite3_vfs_find(nullptr);
    our_vfs = *system_vfs;
    our_vfs.zName = "faulty-disk";
    our_vfs.xOpen = open;
    our_vfs.xDelete = remove;
    sqlite3_vfs_register(&our_vfs, 1);
  }
  disk_fault = fault;
  fault_at = at;
  operations = 0;
}

std::int64_t disk_operations() { return operations; }

}  // namespace equisweep
