#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/wait.h>

#include <cstring>
#include <ctime>

#include "calls.h"

namespace calls {
namespace {

union Argument {
  int value;
  semid_ds* info;
  unsigned short* all;
};
void* const kBad = reinterpret_cast<void*>(8);
constexpr key_t kKey = 0x5e7a11;

void shared_memory() {
  begin("shm");
  value("missing", shmget(kKey, 4096, 0600));
  const int id = shmget(kKey, 5000, IPC_CREAT | 0600);
  truth("made", id >= 0);
  truth("found again", shmget(kKey, 100, 0600) == id);
  value("exclusively", shmget(kKey, 100, IPC_CREAT | IPC_EXCL | 0600));
  value("too large", shmget(kKey, 100000, 0600));
  value("empty", shmget(IPC_PRIVATE, 0, 0600));
  value("attach nothing", reinterpret_cast<long>(shmat(-1, nullptr, 0)));
  value("attach at an odd place", reinterpret_cast<long>(shmat(id, kBad, 0)));
  auto* memory = static_cast<char*>(shmat(id, nullptr, 0));
  truth("attached", memory != reinterpret_cast<char*>(-1));
  std::strcpy(memory, "shared");
  line("a child sees it", in_child([&] {
         const bool same = std::strcmp(memory, "shared") == 0;
         auto* again = static_cast<char*>(shmat(id, nullptr, 0));
         again[6] = '!';
         return same && shmdt(again) == 0 ? 1 : 0;
       }));
  line("and wrote", memory);
  shmid_ds info{};
  value("stat", shmctl(id, IPC_STAT, &info));
  value("size", static_cast<long>(info.shm_segsz));
  value("attached times", static_cast<long>(info.shm_nattch));
  value("mode", info.shm_perm.mode);
  truth("creator", info.shm_cpid == getpid());
  truth("key", info.shm_perm.__key == kKey);
  line("read only", in_child([&] {
         auto* read = static_cast<char*>(shmat(id, nullptr, SHM_RDONLY));
         if (read[0] != 's') return 0;
         read[0] = 'x';
         return 1;
       }));
  line("as nobody", in_child([&] {
         if (setuid(1000) != 0) return 99;
         return shmat(id, nullptr, 0) == reinterpret_cast<void*>(-1) ? errno : 0;
       }));
  line("removed by nobody", in_child([&] {
         if (setuid(1000) != 0) return 99;
         return shmctl(id, IPC_RMID, nullptr) == -1 ? errno : 0;
       }));
  value("stat to a bad place", shmctl(id, IPC_STAT, static_cast<shmid_ds*>(kBad)));
  value("unknown command", shmctl(id, 99, &info));
  value("detach elsewhere", shmdt(memory + 4096));
  value("remove", shmctl(id, IPC_RMID, nullptr));
  value("the key is free", shmget(kKey, 100, 0600));
  truth("the memory stays", memory[0] == 's');
  value("stat of what is to go", shmctl(id, IPC_STAT, &info));
  truth("says so", (info.shm_perm.mode & 01000) != 0);
  value("detach", shmdt(memory));
  value("detach twice", shmdt(memory));
  value("gone", shmctl(id, IPC_STAT, &info));
}

void semaphores() {
  begin("sem");
  value("missing", semget(kKey, 1, 0600));
  value("none in it", semget(IPC_PRIVATE, 0, 0600));
  value("negative", semget(IPC_PRIVATE, -1, 0600));
  const int id = semget(kKey, 3, IPC_CREAT | 0600);
  truth("made", id >= 0);
  value("more than it has", semget(kKey, 4, 0600));
  Argument argument{};
  argument.value = 2;
  value("set", semctl(id, 1, SETVAL, argument));
  value("get", semctl(id, 1, GETVAL, argument));
  argument.value = 40000;
  value("set too high", semctl(id, 1, SETVAL, argument));
  value("get of no such", semctl(id, 9, GETVAL, argument));
  sembuf down{1, -1, 0};
  sembuf operations[2] = {{1, -1, 0}, {2, -1, IPC_NOWAIT}};
  value("down", semop(id, &down, 1));
  value("both or none", semop(id, operations, 2));
  value("is still", semctl(id, 1, GETVAL, argument));
  truth("by us", semctl(id, 1, GETPID, argument) == getpid());
  sembuf wrong{7, 1, 0};
  value("of no such", semop(id, &wrong, 1));
  value("no operations", semop(id, &down, 0));
  value("bad operations", semop(id, static_cast<sembuf*>(kBad), 1));
  sembuf high{0, 32767, 0};
  value("up", semop(id, &high, 1));
  value("beyond", semop(id, &high, 1));
  unsigned short all[3] = {};
  argument.all = all;
  value("all", semctl(id, 0, GETALL, argument));
  value("first", all[0]);
  sembuf zero{2, 0, 0};
  value("for zero", semop(id, &zero, 1));
  const timespec soon{0, 20'000'000};
  sembuf wait{2, -1, 0};
  value("timeout", semtimedop(id, &wait, 1, &soon));
  line("another wakes us", in_child([&] {
         const pid_t child = fork();
         if (child == 0) {
           usleep(30'000);
           sembuf up{2, 1, 0};
           semop(id, &up, 1);
           _exit(0);
         }
         sembuf own{2, -1, 0};
         const int got = semop(id, &own, 1);
         waitpid(child, nullptr, 0);
         return got == 0 ? 1 : 0;
       }));
  line("undone at the end", in_child([&] {
         const pid_t child = fork();
         if (child == 0) {
           sembuf up{2, 5, SEM_UNDO};
           semop(id, &up, 1);
           _exit(0);
         }
         waitpid(child, nullptr, 0);
         Argument none{};
         return semctl(id, 2, GETVAL, none);
       }));
  line("removed while we wait", in_child([&] {
         const int own = semget(IPC_PRIVATE, 1, 0600);
         const pid_t child = fork();
         if (child == 0) {
           usleep(30'000);
           Argument none{};
           semctl(own, 0, IPC_RMID, none);
           _exit(0);
         }
         sembuf for_ever{0, -1, 0};
         const int got = semop(own, &for_ever, 1);
         const int why = errno;
         waitpid(child, nullptr, 0);
         return got == -1 ? why : 0;
       }));
  semid_ds info{};
  argument.info = &info;
  value("stat", semctl(id, 0, IPC_STAT, argument));
  value("count", static_cast<long>(info.sem_nsems));
  value("remove", semctl(id, 0, IPC_RMID, argument));
  value("gone", semop(id, &down, 1));
}

void messages() {
  begin("msg");
  struct Message {
    long type;
    char text[16];
  };
  value("missing", msgget(kKey, 0600));
  const int id = msgget(kKey, IPC_CREAT | 0600);
  truth("made", id >= 0);
  Message message{2, "two"};
  value("send", msgsnd(id, &message, 4, 0));
  message = {1, "one"};
  value("send another", msgsnd(id, &message, 4, 0));
  message = {3, "three"};
  value("and another", msgsnd(id, &message, 6, 0));
  message.type = 0;
  value("of no type", msgsnd(id, &message, 4, 0));
  value("too long", msgsnd(id, &message, 1 << 20, 0));
  msqid_ds info{};
  value("stat", msgctl(id, IPC_STAT, &info));
  value("messages", static_cast<long>(info.msg_qnum));
  value("room", static_cast<long>(info.msg_qbytes));
  Message got{};
  value("too small", msgrcv(id, &got, 2, 3, 0));
  value("by type", msgrcv(id, &got, 16, 3, 0));
  line("is", got.text);
  value("lowest type", msgrcv(id, &got, 16, -2, 0));
  line("is", got.text);
  value("any", msgrcv(id, &got, 2, 0, MSG_NOERROR));
  value("nothing there", msgrcv(id, &got, 16, 0, IPC_NOWAIT));
  line("another sends", in_child([&] {
         const pid_t child = fork();
         if (child == 0) {
           usleep(30'000);
           Message sent{9, "late"};
           msgsnd(id, &sent, 5, 0);
           _exit(0);
         }
         Message late{};
         const long length = msgrcv(id, &late, 16, 0, 0);
         waitpid(child, nullptr, 0);
         return static_cast<int>(length + late.type);
       }));
  line("full", in_child([&] {
         Message fill{1, {}};
         static char room[8200];
         std::memcpy(room, &fill.type, sizeof fill.type);
         int sent = 0;
         while (msgsnd(id, room, 4000, IPC_NOWAIT) == 0) ++sent;
         return errno == EAGAIN ? sent : 0;
       }));
  value("remove", msgctl(id, IPC_RMID, nullptr));
  value("gone", msgsnd(id, &got, 4, 0));
}

}  // namespace

void sysv() {
  shared_memory();
  semaphores();
  messages();
}

}  // namespace calls
