/* Internet addresses of sockets, of either family. */
#include "freeze/descriptors_socket.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

uint16_t address_port(const union socket_address *a)
{
    return ntohs(a->any.sa_family == AF_INET6 ? a->in6.sin6_port : a->in.sin_port);
}

/* The address without its family: an IPv4 address as the IPv6 address that stands for it. */
struct in6_addr address_host(const union socket_address *a)
{
    struct in6_addr host = {0};
    if (a->any.sa_family == AF_INET6)
        return a->in6.sin6_addr;
    host.s6_addr[10] = host.s6_addr[11] = 0xff;
    memcpy(host.s6_addr + 12, &a->in.sin_addr, 4);
    return host;
}

bool address_is_wildcard(const struct in6_addr *host)
{
    return IN6_IS_ADDR_UNSPECIFIED(host) ||
           (IN6_IS_ADDR_V4MAPPED(host) && memcmp(host->s6_addr + 12, "\0\0\0\0", 4) == 0);
}

bool address_is_loopback(const union socket_address *a)
{
    struct in6_addr host = address_host(a);
    return IN6_IS_ADDR_LOOPBACK(&host) || (IN6_IS_ADDR_V4MAPPED(&host) && host.s6_addr[12] == 127);
}

bool address_same(const union socket_address *a, const union socket_address *b)
{
    struct in6_addr x = address_host(a), y = address_host(b);
    return address_port(a) == address_port(b) && memcmp(&x, &y, sizeof x) == 0;
}

void address_print(char *text, size_t size, const union socket_address *a)
{
    char host[INET6_ADDRSTRLEN] = "";
    if (a->any.sa_family == AF_INET6)
        inet_ntop(AF_INET6, &a->in6.sin6_addr, host, sizeof host);
    else
        inet_ntop(AF_INET, &a->in.sin_addr, host, sizeof host);
    snprintf(text, size, a->any.sa_family == AF_INET6 ? "[%s]:%u" : "%s:%u", host, address_port(a));
}

/* Another description whose number of the port is the same (it binds beside this one). */
bool socket_port_is_shared(const struct descriptors *d, const struct description *o)
{
    for (size_t i = 0; i < d->count; i++) {
        const struct description *other = &d->list[i];
        if (other != o && other->kind == o->kind &&
            address_port(&socket_about(other)->local) == address_port(&socket_about(o)->local))
            return true;
    }
    return false;
}
