/* Of sockets that never block. */
#ifndef PENSTOCK_SOCKETS_H
#define PENSTOCK_SOCKETS_H
#include <errno.h>

/* Whether the last call would have had to wait. */
static inline int would_block(void) {
    return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR;
}

#endif
